(ns evalfleet.gateway.store
  "What the gateway needs of a Datomic, whichever API it is reached by. Two drivers hold it:
  `evalfleet.gateway.local` (client API) and `evalfleet.gateway.peer` (peer API). What they would do
  alike stands in the namespaces above them: find specs, schema, batch ids, limits.")

(defprotocol Store
  (facts [store]
    "{:driver :local|:peer, :uri string without secrets, :durable bool, :note string|nil}")
  (basis-t [store]
    "The t of the newest transaction.")
  (database [store view]
    "The newest database value, narrowed by {:as-of t-or-date, :since t-or-date, :history bool}.")
  (query [store query args options]
    "Rows of a query with a plain relation as its find spec. `args` begin with database values.
    Options: :timeout-ms, :rows-max (a driver may answer more).")
  (pull [store db pattern entity]
    "The entity as a map, or nil. The driver's own answer for \"none\" is made nil.")
  (transact! [store tx-data]
    "{:basis-t t, :tx eid, :datoms [[e a v added]]}; throws what Datomic throws.")
  (tx-range [store start limit]
    "At most `limit` transactions from t `start` on: [{:t t, :datoms [[e a v added]]}]. `a` is an id.")
  (close [store]))

(def ^:private t-mask
  "An entity id is a partition in its high bits and, for a transaction, its t in the low 42."
  0x3FFFFFFFFFF)

(defn tx->t [tx] (bit-and t-mask (long tx)))

(defn q
  "Rows of an unbounded internal query."
  [store form & args]
  (query store form args {}))

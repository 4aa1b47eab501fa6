(ns evalfleet.gateway.peer
  "Datomic through the peer API: `datomic:mem://` in this process, `datomic:dev://` and
  `datomic:sql://` through a transactor."
  (:require [clojure.string :as str]
            [datomic.api :as d]
            [datomic.datalog]
            [evalfleet.gateway.fault :refer [fault]]
            [evalfleet.gateway.heap :as heap]
            [evalfleet.gateway.store :as store])
  (:import (java.util.concurrent ExecutionException)
           (datomic Datom)))

(heap/guard! #'datomic.datalog/maybe-cancel)

(def ^:private transact-timeout-ms 60000)

(defn- row [^Datom datom] [(.e datom) (.a datom) (.v datom) (.added datom)])

(defn- narrowed [db {:keys [as-of since history]}]
  (cond-> db
    as-of (d/as-of as-of)
    since (d/since since)
    history d/history))

(defn- await-transaction [submitted]
  (try
    (let [result (deref submitted transact-timeout-ms ::unknown)]
      (when (= ::unknown result)
        (throw (fault :timed-out "the transactor did not answer; the transaction may or may not be written: ask again with the same :batch-id")))
      result)
    (catch ExecutionException e (throw (or (.getCause e) e)))))

(defn- pull-or-nil [db pattern entity]
  (let [found (d/pull db pattern entity)]
    (when-not (or (empty? found) (and (contains? found :db/id) (nil? (:db/id found))))
      found)))

(defrecord Peer [conn uri memory?]
  store/Store
  (facts [_]
    {:driver :peer
     :uri uri
     :durable (not memory?)
     :note (when memory? "datomic:mem is not durable: everything is lost when the gateway ends")})
  (basis-t [_] (d/basis-t (d/db conn)))
  (database [_ view] (narrowed (d/db conn) view))
  (query [_ query args {:keys [timeout-ms]}]
    (d/query (cond-> {:query query :args (vec args)}
               timeout-ms (assoc :timeout timeout-ms))))
  (pull [_ db pattern entity] (pull-or-nil db pattern entity))
  (transact! [_ tx-data]
    (let [{:keys [db-after tx-data]} (await-transaction (d/transact-async conn tx-data))]
      {:basis-t (d/basis-t db-after)
       :tx (.tx ^Datom (first tx-data))
       :datoms (mapv row tx-data)}))
  (tx-range [_ start limit]
    (into [] (comp (take limit) (map (fn [{:keys [t data]}] {:t t :datoms (mapv row data)})))
          (d/tx-range (d/log conn) start nil)))
  (close [_] (d/release conn)))

(defn open
  "Connects, creating the database if there is none."
  [{:keys [uri shown-uri]}]
  (d/create-database uri)
  (->Peer (d/connect uri) shown-uri (str/starts-with? uri "datomic:mem:")))

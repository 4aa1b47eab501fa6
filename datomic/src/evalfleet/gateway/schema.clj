(ns evalfleet.gateway.schema
  "Installs the schema on start and lets it grow: what is missing is added, what is there is never
  altered, and what is there otherwise than the file says stops the gateway."
  (:require [clojure.java.io :as io]
            [clojure.set :as set]
            [clojure.string :as str]
            [evalfleet.gateway.log :as log]
            [evalfleet.gateway.store :as store]
            [evalfleet.gateway.wire :as wire]))

(def ^:private first-instant
  "Transaction time of the schema in a fresh database. It lies in the past, so that history can be
  imported with its own times: Datomic takes no transaction older than its newest."
  #inst "2000-01-01")

(def version
  "Of what the attributes mean. One that only adds attributes keeps it; one under which an older program
  would misread or miswrite counts it up."
  1)

(defn- read-file [source what]
  (let [attributes (wire/parse (slurp source :encoding "UTF-8"))]
    (when-not (and (vector? attributes) (every? #(and (map? %) (qualified-keyword? (:db/ident %))) attributes))
      (throw (ex-info (str what " is not a vector of attributes, each a map with a :db/ident") {::permanent true})))
    attributes))

(defn attributes
  "Our attributes and, if a file is named, its own beside them."
  [schema-file]
  (let [ours (read-file (io/resource "evaluation-schema.edn") "evaluation-schema.edn")
        theirs (when schema-file (read-file (io/file schema-file) schema-file))
        known (into #{} (map :db/ident) ours)]
    (into ours (remove (comp known :db/ident)) theirs)))

(defn- installed [store]
  (let [db (store/database store {})
        shapes (store/q store '[:find ?ident ?type ?cardinality
                                :where
                                [?a :db/valueType ?t]
                                [?a :db/ident ?ident]
                                [?t :db/ident ?type]
                                [?a :db/cardinality ?c]
                                [?c :db/ident ?cardinality]]
                        db)
        unique (into {} (map vec) (store/q store '[:find ?ident ?kind
                                                    :where
                                                    [?a :db/unique ?u]
                                                    [?u :db/ident ?kind]
                                                    [?a :db/ident ?ident]]
                                           db))]
    (into {} (for [[ident type cardinality] shapes]
               [ident {:db/valueType type :db/cardinality cardinality :db/unique (unique ident)}]))))

(defn- check-same [wanted found]
  (let [differing (for [attribute wanted
                        :let [shape (found (:db/ident attribute))]
                        :when (and shape (not= shape (merge {:db/unique nil} (select-keys attribute (keys shape)))))]
                    (:db/ident attribute))]
    (when (seq differing)
      (throw (ex-info (str "the database holds these attributes with another type, cardinality or uniqueness: "
                           (str/join " " (sort differing)) "; use a fresh database")
                      {::permanent true})))))

(defn- known-version
  "The version that the database was written with last; nil when it says none."
  [store found]
  (when (found :tx/schema-version)
    (ffirst (store/q store '[:find (max ?v) :where [_ :tx/schema-version ?v]] (store/database store {})))))

(defn- check-version [known]
  (when (and known (< version known))
    (throw (ex-info (str "the database has schema version " known ", and this gateway knows up to " version
                         ": it was written by a newer version of evalfleet. Update this one; nothing was changed")
                    {::permanent true}))))

(defn permanent?
  "Whether trying again cannot help."
  [t]
  (boolean (::permanent (ex-data t))))

(defn ensure!
  "Makes the database hold every wanted attribute. Returns how many were added."
  [store wanted]
  (let [found (installed store)
        missing (remove (comp found :db/ident) wanted)
        fresh? (empty? (set/intersection (set (keys found)) (set (map :db/ident wanted))))]
    (check-version (known-version store found))
    (check-same wanted found)
    (when (seq missing)
      (store/transact! store (cond-> (vec missing)
                               fresh? (conj {:db/id "datomic.tx" :db/txInstant first-instant})))
      (log/info "schema: " (count missing) " attributes added, " (count found) " were there"))
    (when (not= version (known-version store (installed store)))
      (store/transact! store [(cond-> {:db/id "datomic.tx" :tx/schema-version version}
                                fresh? (assoc :db/txInstant first-instant))]))
    (count missing)))

(ns evalfleet.gateway.batch
  "Writing: one batch is one transaction with an entity of its own that carries the batch id. A
  transaction is code as much as a query is, so its data is held to a shape: maps, :db/add,
  :db/retract, :db/cas; plain values; nothing that names a function, and no schema."
  (:require [clojure.string :as str]
            [evalfleet.gateway.fault :as fault :refer [fault]]
            [evalfleet.gateway.store :as store])
  (:import (java.util Date UUID)))

(def ^:private string-chars-max
  "Datomic Local's limit; kept for every driver, so that data can move between them."
  4096)

(def ^:private forms-max 20000)

(defn- refuse [& words] (throw (fault :bad-request (apply str ":tx-data: " words))))

(defn- schema-namespace? [k]
  (let [n (namespace k)]
    (or (= "db" n) (str/starts-with? n "db."))))

(defn- check-attribute [a]
  (when-not (qualified-keyword? a)
    (refuse "an attribute must be a qualified keyword, not " (pr-str a)))
  (when (or (schema-namespace? a) (#{:tx/batch-id :tx/_batch-id} a))
    (refuse a " is not the caller's to write")))

(defn- check-scalar [attribute v]
  (cond
    (string? v) (when (> (count v) string-chars-max)
                  (refuse attribute " holds a string of " (count v) " characters, more than " string-chars-max
                          ": keep large text in the blob store"))
    (instance? Double v) (when-not (Double/isFinite v) (refuse attribute " holds " v))
    (not (or (instance? Long v) (boolean? v) (keyword? v) (instance? Date v) (instance? UUID v)))
    (refuse attribute " holds a " (if (nil? v) "nil" (.getSimpleName (class v))) ": " (pr-str v))))

(defn- lookup-ref? [v]
  (and (vector? v) (= 2 (count v)) (qualified-keyword? (first v))))

(defn- check-entity [e]
  (cond
    (lookup-ref? e) (do (check-attribute (first e)) (check-scalar (first e) (second e)))
    (string? e) (check-scalar :db/id e)
    (instance? Long e) nil
    :else (refuse "an entity must be an id, a temporary id (string) or a lookup ref, not " (pr-str e))))

(declare check-map)

(defn- check-value [attribute v]
  (cond
    (map? v) (check-map v)
    (lookup-ref? v) (do (check-attribute (first v)) (check-scalar (first v) (second v)))
    (or (vector? v) (set? v)) (run! #(if (or (map? %) (lookup-ref? %))
                                       (check-value attribute %)
                                       (check-scalar attribute %))
                                    v)
    :else (check-scalar attribute v)))

(defn- check-map [m]
  (doseq [[k v] m]
    (if (= :db/id k)
      (check-entity v)
      (do (check-attribute k) (check-value k v)))))

(defn- check-form [form]
  (let [[op e a] (when (vector? form) form)
        length (when (vector? form) (count form))]
    (cond
      (map? form) (check-map form)
      (or (and (#{:db/add :db/retract} op) (= 4 length))
          (and (= :db/cas op) (= 5 length)))
      (do (check-entity e)
          (check-attribute a)
          (run! #(when-not (and (nil? %) (= :db/cas op)) (check-value a %)) (drop 3 form)))
      :else (refuse "neither a map nor [:db/add e a v], [:db/retract e a v], [:db/cas e a old new]: "
                    (let [text (pr-str form)] (subs text 0 (min 200 (count text))))))))

(defn check
  "Refuses transaction data of any other shape."
  [tx-data]
  (when-not (and (vector? tx-data) (seq tx-data)) (refuse "must be a vector of forms, not empty"))
  (when (> (count tx-data) forms-max) (refuse (count tx-data) " forms, more than " forms-max))
  (run! check-form tx-data))

(defn- written
  "The transaction that carries the batch id, if there is one."
  [store batch-id]
  (ffirst (store/q store '[:find ?tx :in $ ?batch :where [?tx :tx/batch-id ?batch]]
                   (store/database store {}) batch-id)))

(defn- duplicate [tx] {:basis-t (store/tx->t tx) :duplicate true :datoms 0})

(defn write!
  "Writes a batch once. When two calls with one id race, Datomic's uniqueness lets one through, and
  the other finds what it wrote."
  [store {:keys [batch-id tx-data tx-instant]}]
  (when-not (and (string? batch-id) (<= 1 (count batch-id) 200))
    (throw (fault :bad-request ":batch-id must be a string of 1 to 200 characters")))
  (when-not (or (nil? tx-instant) (instance? Date tx-instant))
    (throw (fault :bad-request ":tx-instant must be an #inst")))
  (check tx-data)
  (if-let [tx (written store batch-id)]
    (duplicate tx)
    (try
      (let [own (cond-> {:db/id "datomic.tx" :tx/batch-id batch-id}
                  tx-instant (assoc :db/txInstant tx-instant))
            {:keys [basis-t tx datoms]} (store/transact! store (conj tx-data own))]
        {:basis-t basis-t
         :duplicate false
         :datoms (count (remove #(= tx (first %)) datoms))})
      (catch Exception e
        (if-let [tx (and (fault/unique-conflict? e) (written store batch-id))]
          (duplicate tx)
          (throw (fault/of-transaction e)))))))

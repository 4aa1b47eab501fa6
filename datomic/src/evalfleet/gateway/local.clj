(ns evalfleet.gateway.local
  "Datomic Local, the embedded default: files under `<storage-dir>/evalfleet/<db>`, one process at a
  time, the client API. It indexes its log when it opens.

  Never interrupt a thread that is in here: an interrupt closes the log's file channel for good."
  (:require [datomic.client.api :as d]
            [evalfleet.gateway.store :as store])
  (:import (java.io Writer)))

(def ^:private system "evalfleet")

(defn- row [datom] [(:e datom) (:a datom) (:v datom) (:added datom)])

(defn- newest-instant
  "When the newest transaction was made."
  [conn db]
  (let [attribute (:db/id (d/pull db [:db/id] :db/txInstant))
        [{:keys [data]}] (seq (d/tx-range conn {:start (:t db) :limit 1}))]
    (some #(when (= attribute (:a %)) (:v %)) data)))

(defn- point
  "A moment as Local takes it. It refuses those behind its newest transaction, where a moment means
  everything there is: that transaction stands for them all."
  [conn db moment]
  (let [newest (:t db)]
    (if (inst? moment)
      (let [instant (newest-instant conn db)]
        (if (and instant (.before ^java.util.Date instant moment)) newest moment))
      (min newest moment))))

(defn- narrowed [conn db {:keys [as-of since history]}]
  (cond-> db
    as-of (d/as-of (point conn db as-of))
    since (d/since (point conn db since))
    history d/history))

(defn- pull-or-nil [db pattern entity]
  (let [found (d/pull db pattern entity)]
    (when-not (or (empty? found) (and (contains? found :db/id) (nil? (:db/id found))))
      found)))

(defrecord Local [client conn db-name uri]
  store/Store
  (facts [_] {:driver :local :uri uri :durable true :note nil})
  (basis-t [_] (:t (d/db conn)))
  (database [_ view] (narrowed conn (d/db conn) view))
  ;; Local ignores :timeout; the caller stops waiting, the query ends when it ends.
  (query [_ query args {:keys [rows-max timeout-ms]}]
    (d/q (cond-> {:query query :args (vec args)}
           rows-max (assoc :limit rows-max)
           timeout-ms (assoc :timeout timeout-ms))))
  (pull [_ db pattern entity] (pull-or-nil db pattern entity))
  (transact! [_ tx-data]
    ;; Local indexes every attribute and does not know :db/index.
    (let [tx-data (mapv #(if (map? %) (dissoc % :db/index) %) tx-data)
          {:keys [db-after tx-data]} (d/transact conn {:tx-data tx-data})]
      {:basis-t (:t db-after) :tx (:tx (first tx-data)) :datoms (mapv row tx-data)}))
  (tx-range [_ start limit]
    (mapv (fn [{:keys [t data]}] {:t t :datoms (mapv row data)})
          (d/tx-range conn {:start start :limit limit})))
  (close [_] nil))

(defn open
  "Opens the database, creating it if there is none. What was written since it was last opened is
  replayed and indexed (15 000 datoms a second); after that, opening takes moments."
  [{:keys [db-name storage-dir uri]}]
  ;; It prints dots as it goes, into the midst of the log lines.
  (let [nowhere (Writer/nullWriter)]
    (binding [*out* nowhere *err* nowhere]
      (let [client (d/client {:server-type :datomic-local :storage-dir storage-dir :system system})]
        (d/create-database client {:db-name db-name})
        (->Local client (d/connect client {:db-name db-name}) db-name uri)))))

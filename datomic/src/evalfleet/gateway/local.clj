(ns evalfleet.gateway.local
  "Datomic Local, the embedded default: files under `<storage-dir>/evalfleet/<db>`, one process at a
  time, the client API. It indexes its log when it opens.

  Retention writes what stays into a database beside it, `<db>--1`, `<db>--2` and so on, and from then on
  the file `<storage-dir>/<db>.current` says which of them is the one.

  Never interrupt a thread that is in here: an interrupt closes the log's file channel for good."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]
            [datomic.client.api :as d]
            [datomic.core.datalog]
            [datomic.local :as dl]
            [evalfleet.gateway.files :as files]
            [evalfleet.gateway.heap :as heap]
            [evalfleet.gateway.store :as store])
  (:import (java.io File Writer)))

(heap/guard! #'datomic.core.datalog/maybe-cancel)

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

(defrecord Local [client conn db-name uri storage-dir]  ; db-name: that of the files
  store/Store
  (facts [_] {:driver :local :uri uri :durable true :note nil})
  (basis-t [_] (:t (d/db conn)))
  (database [_ view] (narrowed conn (d/db conn) view))
  ;; The client API's own :timeout does nothing in Local. The engine beneath it takes one as a clause.
  (query [_ query args {:keys [rows-max timeout-ms]}]
    (d/q (cond-> {:query query :args (vec args)}
           rows-max (assoc :limit rows-max)
           timeout-ms (assoc-in [:query :timeout] [timeout-ms]))))
  (pull [_ db pattern entity] (pull-or-nil db pattern entity))
  (transact! [_ tx-data]
    (files/room! storage-dir 0)
    ;; Local indexes every attribute and does not know :db/index.
    (let [tx-data (mapv #(if (map? %) (dissoc % :db/index) %) tx-data)
          {:keys [db-after tx-data tempids]} (d/transact conn {:tx-data tx-data})]
      {:basis-t (:t db-after) :tx (:tx (first tx-data)) :datoms (mapv row tx-data) :tempids tempids}))
  (tx-range [_ start limit]
    (mapv (fn [{:keys [t data]}] {:t t :datoms (mapv row data)})
          (d/tx-range conn {:start start :limit limit})))
  (close [_] nil))

(defn folder
  "Where a database's files are."
  ^File [{:keys [storage-dir]} named]
  (io/file storage-dir system named))

(defn- connected [{:keys [storage-dir uri]} named]
  ;; It prints dots as it goes, into the midst of the log lines.
  (let [nowhere (Writer/nullWriter)]
    (binding [*out* nowhere *err* nowhere]
      (let [client (d/client {:server-type :datomic-local :storage-dir storage-dir :system system})]
        (d/create-database client {:db-name named})
        (->Local client (d/connect client {:db-name named}) named uri storage-dir)))))

(defn- ours?
  "Whether files of that name are this database's, and not another's whose name begins like its own."
  [{:keys [db-name]} named]
  (or (= db-name named)
      (and (str/starts-with? named (str db-name "--"))
           (re-matches #"\d+" (subs named (+ 2 (count db-name)))))))

(defn- sweep!
  "Removes what an interrupted retention left, and what a finished one left behind. Whoever calls it has
  the current database open, so that nobody else is at work here."
  [settings kept]
  (doseq [^File left (.listFiles (folder settings ""))
          :when (and (ours? settings (.getName left)) (not= kept (.getName left)))]
    (files/delete-tree left)))

(defn open
  "Opens the database, creating it if there is none. What was written since it was last opened is
  replayed and indexed (15 000 datoms a second); after that, opening takes moments."
  [settings]
  (let [opened (connected settings (files/current settings))]
    (sweep! settings (:db-name opened))
    opened))

(defn successor
  "A fresh database beside `opened`, which is not the current one yet."
  [{:keys [db-name] :as settings} opened]
  (let [nth (inc (or (some-> (re-find #"--(\d+)$" (:db-name opened)) second parse-long) 0))
        named (str db-name "--" nth)]
    (files/delete-tree (folder settings named))
    (connected settings named)))

(defn install!
  "Makes `opened` the current database, at once and for good."
  [settings opened]
  (let [files (folder settings (:db-name opened))]
    (run! files/sync! (.listFiles files))
    (files/sync! files)
    (files/sync! (folder settings "")))
  (files/write-atomically! (files/pointer settings) (:db-name opened)))

(defn remove!
  "Closes a database that nobody needs any more, and removes its files."
  [{:keys [storage-dir] :as settings} opened]
  (dl/release-db {:system system :storage-dir storage-dir :db-name (:db-name opened)})
  (files/delete-tree (folder settings (:db-name opened))))

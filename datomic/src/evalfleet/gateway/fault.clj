(ns evalfleet.gateway.fault
  "The errors that callers see: a kind, a status, a message that names cause and fix. Everything
  that Datomic throws is turned into one of them here, alike for both drivers."
  (:require [clojure.string :as str])
  (:import (java.util.concurrent ExecutionException TimeoutException)))

(def statuses
  "HTTP status of each kind of error."
  {:bad-request 400
   :bad-query 400
   :refused 400
   :unauthorized 401
   :not-found 404
   :method-not-allowed 405
   :tx-instant-past 409
   :too-large 413
   :busy 429
   :defect 500
   :opening 503
   :timed-out 504})

(defn fault
  "An exception for the caller of the API."
  ([kind message] (fault kind message nil))
  ([kind message cause]
   {:pre [(statuses kind)]}
   (ex-info message {::kind kind} cause)))

(defn fault?
  "Whether it is already one of ours."
  [t]
  (boolean (::kind (ex-data t))))

(defn kind [t] (::kind (ex-data t)))

(defn- causes [^Throwable t]
  (take 16 (take-while some? (iterate #(.getCause ^Throwable %) t))))

(defn- db-error [chain]
  (some #(:db/error (ex-data %)) chain))

(defn- innermost
  "The message nearest to the cause, without the wrapping that Datomic adds on the way up."
  [chain]
  (let [message (or (last (keep #(.getMessage ^Throwable %) (remove #(instance? ExecutionException %) chain)))
                    (str (class (last chain))))]
    (subs message 0 (min 1000 (count message)))))

(defn- timeout? [chain]
  (some #(or (instance? TimeoutException %)
             (some-> (.getMessage ^Throwable %) (str/includes? "timeout elapsed")))
        chain))

(defn- out-of-memory? [chain]
  (some #(or (instance? OutOfMemoryError %)
             (some-> (.getMessage ^Throwable %) (str/includes? "OutOfMemoryError")))
        chain))

(defn of-query
  "What a failed query or pull means to the caller."
  [^Throwable t]
  (let [chain (causes t)]
    (cond
      (some fault? chain) (first (filter fault? chain))
      (timeout? chain) (fault :timed-out "the query was stopped at its time limit: put the most selective clause first, or raise :timeout-ms" t)
      (out-of-memory? chain) (fault :too-large "the query needs more memory than the gateway has: its clauses may multiply without a shared variable" t)
      :else (fault :bad-query (innermost chain) t))))

(defn of-transaction
  "What a failed transaction means to the caller. A refusal is permanent: nothing was written."
  [^Throwable t]
  (let [chain (causes t)
        error (db-error chain)
        category (some #(:cognitect.anomalies/category (ex-data %)) chain)]
    (cond
      (fault? t) t
      (= :db.error/past-tx-instant error)
      (fault :tx-instant-past
             (str ":tx-instant is older than the newest transaction: import history oldest first into a fresh "
                  "database, or leave :tx-instant out (event times stay in the data)")
             t)
      (timeout? chain)
      (fault :timed-out "the transaction may or may not be written: ask again with the same :batch-id" t)
      (or error (#{:cognitect.anomalies/incorrect :cognitect.anomalies/conflict} category))
      (fault :refused (innermost chain) t)
      (#{:cognitect.anomalies/unavailable :cognitect.anomalies/busy} category)
      (fault :busy (innermost chain) t)
      (= :cognitect.anomalies/interrupted category)
      (fault :timed-out "the transaction may or may not be written: ask again with the same :batch-id" t)
      :else t)))

(defn unique-conflict? [t]
  (= :db.error/unique-conflict (db-error (causes t))))

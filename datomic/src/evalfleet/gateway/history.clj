(ns evalfleet.gateway.history
  "The log as readers follow it: transactions in order, from a t on, attributes by name."
  (:require [evalfleet.gateway.fault :refer [fault]]
            [evalfleet.gateway.store :as store])
  (:import (java.util Date)))

(def ^:private transactions-default 100)
(def ^:private transactions-max 1000)

(def ^:private datoms-max
  "A reply ends with the transaction that reaches this."
  50000)

(defn- names
  "Attribute ids to idents."
  [store]
  (into {} (map vec) (store/q store '[:find ?a ?ident :where [?a :db/valueType] [?a :db/ident ?ident]]
                              (store/database store {}))))

(defn- instant [transaction]
  (some (fn [[_ a v _]] (when (= :db/txInstant a) v)) (:datoms transaction)))

(defn- bootstrap?
  "Datomic Local lists the transactions that made the database; a peer's log does not hold them."
  [{:keys [^Date tx-instant]}]
  (or (nil? tx-instant) (zero? (.getTime tx-instant))))

(defn- within
  "Transactions up to the one that reaches `datoms-max`."
  [transactions]
  (loop [taken [], datoms 0, [transaction & more] transactions]
    (if (or (nil? transaction) (>= datoms datoms-max))
      taken
      (recur (conj taken transaction) (+ datoms (count (:datoms transaction))) more))))

(defn- t-of [k v]
  (when-not (or (nil? v) (and (instance? Long v) (not (neg? v))))
    (throw (fault :bad-request (str k " must be a t"))))
  v)

(defn tx-range
  "Answers {:transactions [{:t :tx-instant :datoms [[e attribute v added]]}] :next-t t :basis-t t}.
  A reader goes on at :next-t, and has all when it is above :basis-t."
  [store {:keys [start end limit]}]
  (let [limit (or limit transactions-default)]
    (when-not (and (instance? Long limit) (<= 1 limit transactions-max))
      (throw (fault :bad-request (str ":limit must be a number from 1 to " transactions-max))))
    (let [start (or (t-of :start start) 0)
          end (or (t-of :end end) Long/MAX_VALUE)
          basis (store/basis-t store)
          raw (if (> start basis) [] (store/tx-range store start limit))
          ident (names store)
          named (for [{:keys [t datoms]} raw
                      :while (< t end)
                      :let [transaction {:t t :datoms (mapv (fn [[e a v added]] [e (ident a a) v added]) datoms)}]]
                  (assoc transaction :tx-instant (instant transaction)))
          taken (within named)
          cut? (or (= limit (count raw)) (< (count taken) (count raw)))]
      {:transactions (into [] (remove bootstrap?) taken)
       :next-t (cond
                 (seq taken) (if cut? (inc (:t (peek taken))) (max (inc basis) (inc (:t (peek taken)))))
                 :else (max start (inc basis)))
       :basis-t basis})))

(ns evalfleet.gateway.history
  "The log as readers follow it: transactions in order, from a t on, attributes by name."
  (:require [evalfleet.gateway.fault :refer [fault]]
            [evalfleet.gateway.store :as store])
  (:import (java.util Date)))

(def ^:private transactions-default 100)
(def ^:private transactions-max 1000)

(def ^:private datoms-max
  "A reply ends with the transactions that reach this."
  50000)

(def ^:private transactions-at-once 16)

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

(defn- stretch
  "Raw transactions from `start` on, before t `end`, up to `limit` or to the one that reaches
  `datoms-max`. Read a few at a time: a large batch may be all that fits. Says whether it was cut."
  [store start end limit]
  (loop [start start, taken [], datoms 0]
    (let [room (- limit (count taken))
          asked (min transactions-at-once room)
          chunk (store/tx-range store start asked)
          fitting (into [] (take-while #(< (:t %) end)) chunk)
          taken (into taken fitting)
          datoms (transduce (map (comp count :datoms)) + datoms fitting)]
      (if (or (< (count chunk) asked) (< (count fitting) (count chunk)))
        {:taken taken :cut? (< (count fitting) (count chunk))}
        (if (or (= limit (count taken)) (>= datoms datoms-max))
          {:taken taken :cut? true}
          (recur (inc (:t (peek taken))) taken datoms))))))

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
          {:keys [taken cut?]} (if (> start basis) {:taken []} (stretch store start end limit))
          ;; Whoever follows the log mostly finds nothing new, and needs no names.
          ident (delay (names store))
          named (map (fn [{:keys [t datoms]}]
                       {:t t :datoms (mapv (fn [[e a v added]] [e (@ident a a) v added]) datoms)}))
          timed (map #(assoc % :tx-instant (instant %)))
          after (inc (:t (peek taken) (dec start)))]
      {:transactions (into [] (comp named timed (remove bootstrap?)) taken)
       ;; Ids of transactions may leave gaps; when nothing was cut, all up to the basis was read.
       :next-t (if cut? after (max after (inc basis)))
       :basis-t basis})))

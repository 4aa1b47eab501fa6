(ns evalfleet.gateway.heap
  "Stops queries before they take the heap that everything else lives in. A query whose clauses multiply
  may need any amount of memory in little time, and a process without memory ends: what a database in
  memory holds would be gone, and whoever writes would wait for the next start.

  Both query engines ask `maybe-cancel` again and again whether their time is up. Here it also asks
  whether the heap is. Neither engine offers a bound of its own, and the name is not public: a test tries
  that it still stops both."
  (:require [evalfleet.gateway.fault :refer [fault]])
  (:import (java.lang.management ManagementFactory MemoryPoolMXBean MemoryType)))

(def ^:private share-max
  "How much of the old generation may be in use right after a collection."
  0.9)

(def ^:private ^MemoryPoolMXBean old-generation
  (->> (ManagementFactory/getMemoryPoolMXBeans)
       (filter #(and (= MemoryType/HEAP (.getType ^MemoryPoolMXBean %))
                     (.isCollectionUsageThresholdSupported ^MemoryPoolMXBean %)
                     (pos? (.getMax (.getUsage ^MemoryPoolMXBean %)))))
       (sort-by #(.getMax (.getUsage ^MemoryPoolMXBean %)))
       last))

(defn short?
  "Whether what is left of the heap is little."
  []
  (and old-generation (.isCollectionUsageThresholdExceeded old-generation)))

(def message
  "the query was stopped, for it needs more memory than the gateway has: its clauses may multiply without a shared variable; EVALFLEET_GATEWAY_HEAP gives it more")

(defn- guarded [maybe-cancel]
  (fn []
    (when (short?) (throw (fault :too-large message)))
    (maybe-cancel)))

(defn guard!
  "From now on, queries of the engine whose `maybe-cancel` that var is end when the heap does."
  [engine-var]
  (when old-generation
    (.setCollectionUsageThreshold old-generation
                                  (long (* share-max (.getMax (.getUsage old-generation))))))
  (alter-var-root engine-var guarded))

(defn collect!
  "Lets go what a stopped query held: the next query is not to be stopped for it."
  []
  (System/gc))

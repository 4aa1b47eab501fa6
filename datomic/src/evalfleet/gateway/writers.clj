(ns evalfleet.gateway.writers
  "Who writes holds one of a few places; who needs that nobody writes holds all of them."
  (:require [evalfleet.gateway.fault :refer [fault]])
  (:import (java.util.concurrent Semaphore TimeUnit)))

(def ^:private places-max 24)

(def ^:private quiet-wait-ms
  "For transactions that run to end."
  60000)

(defn make ^Semaphore [] (Semaphore. places-max true))

(defn still
  "Runs `f` while nobody writes. Callers that write wait, and hear `busy` when that takes long."
  [^Semaphore places f]
  (when-not (.tryAcquire places places-max quiet-wait-ms TimeUnit/MILLISECONDS)
    (throw (fault :busy "transactions did not end within a minute: try again shortly")))
  (try (f) (finally (.release places places-max))))

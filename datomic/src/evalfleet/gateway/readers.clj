(ns evalfleet.gateway.readers
  "Threads for reading. A query holds one of a few places until it truly ends. Its engine stops it at the
  time limit, or when the heap does (`evalfleet.gateway.heap`). Should it be where the engine does not
  look, its caller waits no longer: never interrupt it, for that would break Local's log. When every place
  is held, callers hear `busy`, and writing goes on."
  (:require [evalfleet.gateway.fault :as fault :refer [fault]]
            [evalfleet.gateway.heap :as heap])
  (:import (java.util.concurrent ExecutionException ExecutorService Executors Future Semaphore
                                 ThreadFactory TimeUnit TimeoutException)))

(def ^:private places-max 4)
(def ^:private wait-for-place-ms 5000)

(def ^:private grace-ms
  "The engine, which stops a query at its limit, is given this to say so itself."
  1000)

(defn make []
  (let [number (atom 0)]
    {:places (Semaphore. places-max true)
     :threads (Executors/newFixedThreadPool places-max
                                            (reify ThreadFactory
                                              (newThread [_ task]
                                                (doto (Thread. task (str "reader-" (swap! number inc)))
                                                  (.setDaemon true)))))}))

(defn run
  "The value of `(f)`, or a fault when no place is free or the time is up."
  [{:keys [^Semaphore places ^ExecutorService threads]} timeout-ms f]
  (when-not (.tryAcquire places wait-for-place-ms TimeUnit/MILLISECONDS)
    (throw (fault :busy (str places-max " queries are running, as many as the gateway takes: try again shortly"))))
  (let [task ^Callable (fn []
                         (try (f)
                              (catch Throwable t
                                (when (= :too-large (fault/kind t)) (heap/collect!))
                                (throw t))
                              (finally (.release places))))
        ^Future running (.submit threads task)]
    (try
      (.get running (+ timeout-ms grace-ms) TimeUnit/MILLISECONDS)
      (catch TimeoutException e
        (throw (fault :timed-out (str "no answer within " timeout-ms " ms: put the most selective clause first, "
                                      "or raise :timeout-ms; the query goes on until it ends")
                      e)))
      (catch ExecutionException e (throw (or (.getCause e) e))))))

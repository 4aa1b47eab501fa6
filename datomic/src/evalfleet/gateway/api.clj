(ns evalfleet.gateway.api
  "The paths, and what may run at once on each."
  (:require [evalfleet.gateway.backup :as backup]
            [evalfleet.gateway.batch :as batch]
            [evalfleet.gateway.fault :refer [fault]]
            [evalfleet.gateway.history :as history]
            [evalfleet.gateway.opening :as opening]
            [evalfleet.gateway.question :as question]
            [evalfleet.gateway.readers :as readers]
            [evalfleet.gateway.retention :as retention]
            [evalfleet.gateway.writers :as writers]))

(def version "0.1.0")

(def ^:private batch-bytes-max (* 16 1024 1024))
(def ^:private question-bytes-max (* 256 1024))
(def ^:private writer-wait-ms 10000)

(defn- ready-store [state]
  (let [{:keys [status last-error] opened :store} @state]
    (when-not (= :ready status)
      (throw (fault :opening (str "the store is not open yet (" (name status) ")"
                                  (when last-error (str ": " last-error))
                                  "; /health says how far it is"))))
    opened))

(defn routes [state]
  (let [reading (readers/make)
        writing (writers/make)
        write {:method "POST" :body-max batch-bytes-max
               :permits writing :wait-ms writer-wait-ms
               :handler #(batch/write! (ready-store state) %)}
        read (fn [f]
               {:method "POST" :body-max question-bytes-max
                :handler (fn [request]
                           (let [opened (ready-store state)]
                             (readers/run reading (question/timeout-ms request) #(f opened request))))})]
    {"/health" {:method "GET" :handler (fn [_] (opening/health state version))}
     "/transact" write
     "/backup" {:method "POST" :body-max question-bytes-max
                :handler #(backup/take! (:settings @state) (ready-store state) writing %)}
     "/retain" {:method "POST" :body-max question-bytes-max
                :handler #(retention/begin! state (ready-store state) writing %)}
     "/retention" {:method "GET" :handler (fn [_] (retention/status state))}
     "/query" (read question/ask)
     "/pull" (read question/pull)
     "/tx-range" (read history/tx-range)}))

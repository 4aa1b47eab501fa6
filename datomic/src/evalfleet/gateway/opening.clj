(ns evalfleet.gateway.opening
  "From the first moment to a ready store:

      opening ──▶ ready
        │ ▲ └───▶ failed    (trying again cannot help: the schema differs)
        └─┘                 (every few seconds: no transactor yet, the files are another process's)

  The socket answers meanwhile. Drivers are loaded here and not before: each takes seconds, and only
  the one that the URI asks for is wanted."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]
            [evalfleet.gateway.log :as log]
            [evalfleet.gateway.schema :as schema]
            [evalfleet.gateway.store :as store])
  (:import (java.lang.management ManagementFactory)))

(def ^:private retry-ms 5000)

(defn uptime-ms [] (.getUptime (ManagementFactory/getRuntimeMXBean)))

(defn initial
  "The state of a gateway that has just begun."
  [settings]
  (atom {:status :opening :settings settings :step :starting :attempt 1}))

(defn- log-bytes
  "Size of Local's log. It replays what was written since it last opened, and tells no more of it."
  [{:keys [driver storage-dir db-name]}]
  (when (= :local driver)
    (.length (io/file storage-dir "evalfleet" db-name "db.log"))))

(defn- open-once [state {:keys [driver] :as settings}]
  (swap! state assoc :step :loading-driver)
  (let [open (requiring-resolve (case driver
                                  :local 'evalfleet.gateway.local/open
                                  :peer 'evalfleet.gateway.peer/open))
        _ (swap! state assoc :step :opening-store)
        opened (open settings)]
    (swap! state assoc :step :schema)
    (let [wanted (schema/attributes (:schema-file settings))]
      (schema/ensure! opened wanted)
      (swap! state assoc :attributes (count wanted)))
    opened))

(defn- message [^Throwable t]
  (str/trim (or (.getMessage t) (str (class t)))))

(defn run
  "Opens the store, however long it takes. Meant for a thread of its own."
  [state]
  (let [{:keys [settings]} @state]
    (loop [attempt 1]
      (swap! state assoc :attempt attempt)
      (let [outcome (try
                      (open-once state settings)
                      (catch Throwable t t))]
        (cond
          (satisfies? store/Store outcome)
          (let [{:keys [note durable uri]} (store/facts outcome)]
            (swap! state assoc :status :ready :store outcome :ready-ms (uptime-ms))
            (log/info "ready: " uri ", basis-t " (store/basis-t outcome) ", "
                      (if durable "durable" "NOT durable") ", " (uptime-ms) " ms after the start")
            (when note (log/warn note)))

          (schema/permanent? outcome)
          (do (log/error (message outcome))
              (swap! state assoc :status :failed :last-error (message outcome)))

          :else
          (do (log/warn "the store does not open, next try in " (quot retry-ms 1000) " s: " (message outcome))
              (swap! state assoc :last-error (message outcome))
              (Thread/sleep (long retry-ms))
              (recur (inc attempt))))))))

(defn health
  "What /health answers."
  [state version]
  (let [{:keys [status settings step attempt last-error attributes ready-ms] opened :store} @state
        always {:status status :version version :uptime-ms (uptime-ms)}]
    (case status
      :ready (merge always (store/facts opened)
                    {:basis-t (store/basis-t opened) :attributes attributes :ready-after-ms ready-ms})
      (cond-> (assoc always :driver (:driver settings) :uri (:shown-uri settings) :step step :attempt attempt)
        last-error (assoc :last-error last-error)
        (= :local (:driver settings)) (assoc :log-bytes (log-bytes settings))))))

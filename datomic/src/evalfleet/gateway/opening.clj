(ns evalfleet.gateway.opening
  "From the first moment to a ready store:

      opening ──▶ ready
        │ ▲ └───▶ failed    (trying again cannot help: the schema differs)
        └─┘                 (every few seconds: no transactor yet, the files are another process's)

  The socket answers meanwhile. Drivers are loaded here and not before: each takes seconds, and only
  the one that the URI asks for is wanted."
  (:require [clojure.java.io :as io]
            [clojure.edn :as edn]
            [clojure.string :as str]
            [evalfleet.gateway.files :as files]
            [evalfleet.gateway.log :as log]
            [evalfleet.gateway.schema :as schema]
            [evalfleet.gateway.store :as store])
  (:import (java.lang.management ManagementFactory)))

(def ^:private retry-ms 5000)
(def ^:private tell-every-ms 10000)

(defn uptime-ms [] (.getUptime (ManagementFactory/getRuntimeMXBean)))

(defn initial
  "The state of a gateway that has just begun."
  [settings]
  (atom {:status :opening :settings settings :step :starting :attempt 1}))

(defn- log-bytes
  "Size of Local's log. It replays and indexes it, and tells no more of it."
  [{:keys [storage-dir] :as settings}]
  (.length (io/file storage-dir "evalfleet" (files/current settings) "db.log")))

(defn- note [{:keys [storage-dir db-name]}] (io/file storage-dir (str db-name ".opened")))

(defn- expected-ms
  "How long opening will take, by how long a log took last time; nil where none took long yet."
  [settings]
  (let [bytes (log-bytes settings)
        last-time (try (edn/read-string (slurp (note settings))) (catch Exception _ nil))
        {last-bytes :log-bytes ms :ms} (when (map? last-time) last-time)]
    (when (and (pos-int? last-bytes) (pos-int? ms))
      (quot (* ms bytes) last-bytes))))

(defn- note-opened!
  "A short opening tells nothing of a long one."
  [settings ms]
  (try
    (when (> ms tell-every-ms)
      (files/write-atomically! (note settings) (pr-str {:log-bytes (log-bytes settings) :ms ms})))
    ;; It is there for an estimate alone.
    (catch java.io.IOException e (log/warn "how long opening took is not noted: " (.getMessage e)))))

(defn- progress [{:keys [settings opening-since expected]}]
  (when (and opening-since (= :local (:driver settings)))
    (cond-> {:log-bytes (log-bytes settings) :elapsed-ms (- (uptime-ms) opening-since)}
      expected (assoc :expected-ms expected))))

(defn- tell-progress
  "Says every few seconds how far opening is, until it is over."
  [state]
  (doto (Thread. #(loop []
                    (Thread/sleep (long tell-every-ms))
                    (when (= :opening (:status @state))
                      (when-let [{:keys [log-bytes elapsed-ms expected-ms]} (progress @state)]
                        (log/info "opening the store, a log of " (quot log-bytes 1048576) " MiB: "
                                  (quot elapsed-ms 1000) " s"
                                  (when expected-ms (str " of some " (quot expected-ms 1000)))))
                      (recur)))
                "opening-progress")
    (.setDaemon true)
    (.start)))

(defn- open-once [state {:keys [driver] :as settings}]
  (swap! state assoc :step :loading-driver)
  (let [open (requiring-resolve (case driver
                                  :local 'evalfleet.gateway.local/open
                                  :peer 'evalfleet.gateway.peer/open))
        local? (= :local driver)
        begun (uptime-ms)
        _ (swap! state assoc :step :opening-store :opening-since begun
                 :expected (when local? (expected-ms settings)))
        opened (open settings)]
    (when local? (note-opened! settings (- (uptime-ms) begun)))
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
    (tell-progress state)
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
        :always (merge (progress @state))))))

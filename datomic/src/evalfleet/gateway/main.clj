(ns evalfleet.gateway.main
  "Starts the gateway: the socket first, the store behind it. Exit codes: 64 for usage, 1 otherwise."
  (:require [evalfleet.gateway.api :as api]
            [evalfleet.gateway.day]
            [evalfleet.gateway.http :as http]
            [evalfleet.gateway.log :as log]
            [evalfleet.gateway.opening :as opening]
            [evalfleet.gateway.settings :as settings]
            [evalfleet.gateway.store :as store]))

(def ^:private drain-s 10)

(defn start
  "Opens the socket and begins to open the store. Returns {:server :state}."
  [settings]
  (http/configure!)
  (let [state (opening/initial settings)
        server (http/start settings (api/routes state))]
    (log/info "listening on " (:host settings) ":" (http/port server) ", " (opening/uptime-ms) " ms after the start")
    (doto (Thread. #(opening/run state) "open-store") (.setDaemon true) (.start))
    {:server server :state state}))

(defn stop
  "Drains requests, then closes the store."
  [{:keys [server state]}]
  (http/stop server drain-s)
  (some-> @state :store store/close))

(defn- exit [code & words]
  (binding [*out* *err*] (apply println words))
  (System/exit code))

(defn -main [& args]
  (try
    (let [running (start (settings/parse args (System/getenv)))]
      (.addShutdownHook (Runtime/getRuntime)
                        (Thread. #(do (log/info "stopping") (stop running)) "shutdown"))
      @(promise))
    (catch clojure.lang.ExceptionInfo e
      (if (settings/usage-error? e)
        (exit 64 (str (.getMessage e) "\n" settings/usage))
        (exit 1 (.getMessage e))))
    (catch java.net.BindException e
      (exit 1 (str "cannot listen: " (.getMessage e) "; give another --port")))))

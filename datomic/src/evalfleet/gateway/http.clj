(ns evalfleet.gateway.http
  "HTTP on loopback, over the JDK's own server: token, body bounds, threads, and how many requests
  of a kind run at once. What a request means is the handlers'."
  (:require [clojure.string :as str]
            [evalfleet.gateway.fault :as fault :refer [fault]]
            [evalfleet.gateway.log :as log]
            [evalfleet.gateway.wire :as wire])
  (:import (com.sun.net.httpserver HttpExchange HttpHandler HttpServer)
           (java.io InputStream)
           (java.net InetAddress InetSocketAddress)
           (java.nio.charset StandardCharsets)
           (java.security MessageDigest)
           (java.util.concurrent ArrayBlockingQueue Semaphore ThreadFactory ThreadPoolExecutor TimeUnit)
           (java.util.concurrent.atomic AtomicInteger)))

(def ^:private backlog 128)
(def ^:private threads 48)
(def ^:private waiting-max
  "Connections that wait for a thread; above it the server closes them."
  128)

(defn configure!
  "Limits of the JDK's server, in seconds; read when its classes load, so this comes first."
  []
  (doseq [[k v] {"sun.net.httpserver.maxReqTime" "30"
                 "sun.net.httpserver.maxRspTime" "600"
                 "sun.net.httpserver.idleInterval" "60"
                 "sun.net.httpserver.maxReqHeaders" "64"
                 "sun.net.httpserver.nodelay" "true"}]
    (System/setProperty k v)))

(defn- authorized? [^HttpExchange exchange ^bytes token]
  (let [given (or (.getFirst (.getRequestHeaders exchange) "Authorization") "")]
    (and (str/starts-with? given "Bearer ")
         (MessageDigest/isEqual token (.getBytes (subs given 7) StandardCharsets/UTF_8)))))

(defn- body [^HttpExchange exchange most]
  (with-open [^InputStream in (.getRequestBody exchange)]
    (let [bytes (.readNBytes in (inc (int most)))]
      (when (> (alength bytes) most)
        (throw (fault :too-large (str "the body is larger than " most " bytes"))))
      bytes)))

(defn- reply! [^HttpExchange exchange status value]
  (let [bytes (wire/emit value)]
    (.set (.getResponseHeaders exchange) "Content-Type" "application/edn; charset=utf-8")
    (.sendResponseHeaders exchange status (alength bytes))
    (with-open [out (.getResponseBody exchange)]
      (.write out bytes))))

(defn- within
  "Runs `f` holding one of the permits, or says that there is none."
  [^Semaphore permits wait-ms f]
  (if (.tryAcquire permits wait-ms TimeUnit/MILLISECONDS)
    (try (f) (finally (.release permits)))
    (throw (fault :busy "too many requests of this kind at once: try again shortly"))))

(defn- handle [^HttpExchange exchange {:keys [method body-max permits wait-ms handler]}]
  (when (not= method (.getRequestMethod exchange))
    (throw (fault :method-not-allowed (str "use " method))))
  (if (= "GET" method)
    (handler nil)
    (let [request (wire/parse-bytes (body exchange body-max))]
      (when-not (map? request) (throw (fault :bad-request "the body must be a map")))
      (if permits
        (within permits wait-ms #(handler request))
        (handler request)))))

(defn- answer
  "Status and value for a request; every failure ends here."
  [^HttpExchange exchange token routes]
  (try
    (when-not (authorized? exchange token)
      (throw (fault :unauthorized "send the token of --token-file as Authorization: Bearer …")))
    (let [path (.getPath (.getRequestURI exchange))
          route (or (routes path) (throw (fault :not-found (str "no such path: " path))))]
      [200 (handle exchange route)])
    (catch Throwable t
      (if-let [kind (fault/kind t)]
        [(fault/statuses kind) {:error kind :message (.getMessage t)}]
        (do
          (log/error "a request failed: " (.getRequestURI exchange) ": " t)
          [500 {:error :defect :message (str (.getSimpleName (class t)) ": " (.getMessage t))}])))))

(defn- serve [^HttpExchange exchange token routes ^AtomicInteger running]
  (.incrementAndGet running)
  (try
    (let [[status value] (if (neg? (.get running))
                           [503 {:error :opening :message "the gateway is stopping"}]
                           (answer exchange token routes))]
      (try
        (reply! exchange status value)
        (catch clojure.lang.ExceptionInfo e
          (reply! exchange (fault/statuses (or (fault/kind e) :defect))
                  {:error (or (fault/kind e) :defect) :message (.getMessage e)}))))
    ;; The caller went away: nothing to answer.
    (catch java.io.IOException _ nil)
    (finally
      (.close exchange)
      (.decrementAndGet running))))

(defn- pool []
  (let [number (atom 0)]
    (doto (ThreadPoolExecutor. (int threads) (int threads) 30 TimeUnit/SECONDS (ArrayBlockingQueue. waiting-max)
                               ^ThreadFactory (reify ThreadFactory
                                 (newThread [_ task]
                                   (doto (Thread. task (str "http-" (swap! number inc)))
                                     (.setDaemon true)))))
      (.allowCoreThreadTimeOut true))))

(defn start
  "Opens the socket and answers at once. `routes`: path to {:method :body-max :permits :wait-ms :handler}."
  [{:keys [host port token anywhere]} routes]
  (let [address (InetAddress/getByName host)]
    (when-not (or anywhere (.isLoopbackAddress address))
      (throw (ex-info (str "--host " host " is not a loopback address, and the gateway speaks plain HTTP: "
                           "--anywhere yes allows it in a closed network") {})))
    (let [server (HttpServer/create (InetSocketAddress. address (int port)) backlog)
          token (.getBytes ^String token StandardCharsets/UTF_8)
          running (AtomicInteger.)]
      (.createContext server "/" (reify HttpHandler
                                   (handle [_ exchange] (serve exchange token routes running))))
      (.setExecutor server (pool))
      (.start server)
      {:server server :running running})))

(defn port [{:keys [^HttpServer server]}] (.getPort (.getAddress server)))

(def ^:private stopping
  "Added to the number of running requests: below zero means that new ones are turned away."
  Integer/MIN_VALUE)

(defn stop
  "Turns new requests away, and waits up to `grace-s` seconds for those under way. The JDK's own
  `stop` would wait all that time even when nothing runs."
  [{:keys [^HttpServer server ^AtomicInteger running]} grace-s]
  (.addAndGet running stopping)
  (loop [left (* 20 grace-s)]
    (when (and (pos? left) (not= stopping (.get running)))
      (Thread/sleep 50)
      (recur (dec left))))
  (.stop server 0)
  (.shutdown ^ThreadPoolExecutor (.getExecutor server)))

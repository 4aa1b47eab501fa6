(ns evalfleet.gateway.http-test
  "The whole gateway over its socket."
  (:require [clojure.edn :as edn]
            [clojure.test :refer [deftest is testing]]
            [evalfleet.gateway.fixture :as fixture]
            [evalfleet.gateway.http :as http]
            [evalfleet.gateway.main :as main]
            [evalfleet.gateway.settings :as settings])
  (:import (java.net URI)
           (java.net.http HttpClient HttpRequest HttpRequest$BodyPublishers HttpResponse$BodyHandlers)))

(def ^:private token "0123456789abcdef")
(def ^:private client (HttpClient/newHttpClient))

(defn- settings-for [uri]
  (let [folder (fixture/temporary-folder)
        token-file (java.io.File. folder "token")]
    (spit token-file (str token "\n"))
    (settings/parse ["--uri" uri "--port" "0" "--token-file" (str token-file) "--storage-dir" (str folder)] {})))

(defn- request [port path body given-token]
  (let [builder (doto (HttpRequest/newBuilder (URI. (str "http://127.0.0.1:" port path)))
                  (.header "Authorization" (str "Bearer " given-token)))]
    (when body (.POST builder (HttpRequest$BodyPublishers/ofString body)))
    (let [response (.send client (.build builder) (HttpResponse$BodyHandlers/ofString))]
      [(.statusCode response) (edn/read-string (.body response))])))

(defn- with-gateway [uri f]
  (let [{:keys [server] :as running} (main/start (settings-for uri))
        port (http/port server)]
    (try
      (f #(request port %1 %2 token) port)
      (finally (main/stop running)))))

(defn- await-ready [ask]
  (loop [left 300]
    (let [[status health] (ask "/health" nil)]
      (assert (= 200 status))
      (cond (= :ready (:status health)) health
            (zero? left) (throw (ex-info "never ready" health))
            :else (do (Thread/sleep 100) (recur (dec left)))))))

(deftest answers-over-http
  (doseq [[uri driver durable] [["datomic:local://test" :local true] ["datomic:mem://http-test" :peer false]]]
    (with-gateway uri
      (fn [ask port]
        (let [health (await-ready ask)]
          (is (= [driver durable] ((juxt :driver :durable) health)))
          (is (= durable (nil? (:note health)))))
        (testing "the token"
          (is (= 401 (first (request port "/health" nil "wrong-token-of-some-length"))))
          (is (= 401 (first (request port "/query" "{}" "")))))
        (testing "bodies"
          (is (= [400 :bad-request] (update (ask "/query" "{:query #=(System/exit 3)}") 1 :error)))
          (is (= [400 :bad-request] (update (ask "/query" "[]") 1 :error)))
          (is (= [413 :too-large] (update (ask "/query" (str "{:query \"" (apply str (repeat 300000 "x")) "\"}")) 1 :error)))
          (is (= [404 :not-found] (update (ask "/nothing" "{}") 1 :error)))
          (is (= [405 :method-not-allowed] (update (ask "/query" nil) 1 :error))))
        (testing "a batch, twice, and a query"
          (let [body "{:batch-id \"b\" :tx-data [{:evaluation/id \"e\"}] :tx-instant #inst \"2025-07-31\"}"]
            (is (= [200 false] (update (ask "/transact" body) 1 :duplicate)))
            (is (= [200 true] (update (ask "/transact" body) 1 :duplicate))))
          (is (= [409 :tx-instant-past]
                 (update (ask "/transact" "{:batch-id \"c\" :tx-data [{:evaluation/id \"f\"}] :tx-instant #inst \"2024\"}") 1 :error)))
          (is (= [200 ["e"]] (update (ask "/query" "{:query [:find [?id ...] :where [_ :evaluation/id ?id]]}") 1 :rows)))
          (is (= [400 :bad-query] (update (ask "/query" "{:query [:find ?x :where [(slurp \"x\") ?x]]}") 1 :error))))))))

(deftest beyond-loopback-only-where-it-is-meant
  (let [settings (assoc (settings-for "datomic:mem://anywhere") :host "0.0.0.0")]
    (is (thrown-with-msg? Exception #"--anywhere yes" (main/start settings)))
    (main/stop (main/start (assoc settings :anywhere true)))))

(deftest settings-report-every-error
  (let [message (try (settings/parse ["--uri" "sqlite:x"] {}) (catch Exception e (.getMessage e)))]
    (is (re-find #"--uri must" message))
    (is (re-find #"--port must" message))
    (is (re-find #"--token-file must" message)))
  (is (thrown? Exception (settings/parse ["--nonsense" "x"] {}))))

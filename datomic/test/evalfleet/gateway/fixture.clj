(ns evalfleet.gateway.fixture
  "A fresh store for a test, of either driver."
  (:require [evalfleet.gateway.local :as local]
            [evalfleet.gateway.peer :as peer]
            [evalfleet.gateway.schema :as schema]
            [evalfleet.gateway.store :as store])
  (:import (java.io File)
           (java.nio.file Files)
           (java.nio.file.attribute FileAttribute)))

(defn- delete-tree [^File file]
  (run! delete-tree (.listFiles file))
  (.delete file))

(defn temporary-folder ^File []
  (doto (.toFile (Files/createTempDirectory "evalfleet-gateway" (make-array FileAttribute 0)))
    (-> (as-> folder (.addShutdownHook (Runtime/getRuntime) (Thread. #(delete-tree folder)))))))

(defn- fresh-local []
  (local/open {:db-name "test" :storage-dir (str (temporary-folder)) :uri "datomic:local://test"}))

(defn- fresh-peer []
  (let [uri (str "datomic:mem://test-" (random-uuid))]
    (peer/open {:uri uri :shown-uri uri})))

(defn each-driver
  "Runs `f` on an empty store with our schema, once per driver."
  [f]
  (doseq [open [fresh-local fresh-peer]
          :let [opened (open)]]
    (schema/ensure! opened (schema/attributes nil))
    (try (f opened) (finally (store/close opened)))))

(defn evaluation
  "Transaction data of an evaluation with one call."
  [id rate timestamp]
  {:evaluation/id id
   :evaluation/success-rate rate
   :evaluation/timestamp timestamp
   :evaluation/function-calls [{:function-call/id (str id "/call/0")
                                :function-call/name "read_file"
                                :function-call/success-rate rate}]})

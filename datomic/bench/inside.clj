;; What Datomic takes by itself, in one process with whoever asks. See inside.sh.
(require '[clojure.java.io :as io]
         '[clojure.string :as str]
         '[evalfleet.gateway.day]
         '[evalfleet.gateway.local :as local]
         '[evalfleet.gateway.peer :as peer]
         '[evalfleet.gateway.schema :as schema]
         '[evalfleet.gateway.store :as store]
         '[evalfleet.gateway.wire :as wire])

(defn- lines [file] (remove str/blank? (line-seq (io/reader file))))

(defn- ms-since [begun] (/ (- (System/nanoTime) begun) 1e6))

(defn- temporary []
  (str (java.nio.file.Files/createTempDirectory "inside" (make-array java.nio.file.attribute.FileAttribute 0))))

(defn- record
  "What all batches but the first `uncounted` take."
  [opened file uncounted]
  (schema/ensure! opened (schema/attributes nil))
  (reduce (fn [total [number line]]
            (let [{:keys [batch-id tx-data]} (wire/parse line)
                  begun (System/nanoTime)]
              (store/transact! opened (conj tx-data {:db/id "datomic.tx" :tx/batch-id batch-id}))
              (if (< number uncounted) total (+ total (ms-since begun)))))
          0.0 (map-indexed vector (lines file))))

(defn- ask [opened file times]
  (let [queries (mapv wire/parse (lines file))
        once (fn [query]
               (let [begun (System/nanoTime)
                     rows (count (store/query opened query [(store/database opened {})] {}))]
                 [(ms-since begun) rows]))]
    (run! once queries)
    (vec (for [query queries]
           (let [seen (vec (repeatedly times #(once query)))]
             {:ms (mapv first seen) :rows (second (peek seen))})))))

(let [[mode & args] *command-line-args*
      answer (binding [*out* *err*]
               (case mode
                 "record" (let [[file uncounted] args
                                dir (temporary)
                                mem (str "datomic:mem://inside-" (random-uuid))]
                            {:local-ms (record (local/open {:db-name "inside" :storage-dir dir :uri "datomic:local://inside"}) file (parse-long uncounted))
                             :memory-ms (record (peer/open {:uri mem :shown-uri mem}) file (parse-long uncounted))})
                 "ask" (let [[storage db-name file times] args]
                         (ask (local/open {:db-name db-name :storage-dir storage :uri (str "datomic:local://" db-name)})
                              file (parse-long times)))))]
  (println (pr-str answer))
  (flush)
  (System/exit 0))

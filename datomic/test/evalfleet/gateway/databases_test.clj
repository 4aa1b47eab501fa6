(ns evalfleet.gateway.databases-test
  "Databases of earlier versions are opened, grown and read; those of later ones are refused."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]
            [clojure.test :refer [deftest is testing]]
            [evalfleet.gateway.batch :as batch]
            [evalfleet.gateway.fixture :as fixture :refer [evaluation]]
            [evalfleet.gateway.local :as local]
            [evalfleet.gateway.question :as question]
            [evalfleet.gateway.schema :as schema]
            [evalfleet.gateway.store :as store]))

(def ^:private kept (io/file "test/databases"))

(defn- settings [folder] {:db-name "old" :storage-dir (str folder) :uri "datomic:local://old"})

(defn- copy-of [version]
  (let [folder (fixture/temporary-folder)
        files (io/file folder "evalfleet" "old")]
    (.mkdirs files)
    (io/copy (io/file kept (str version ".db")) (io/file files "db.log"))
    (io/copy (io/file kept (str version ".idx")) (io/file files "log.idx"))
    folder))

(defn write
  "Makes the files of a version out of the schema as it is: call it from a REPL before the schema changes."
  [folder]
  (let [opened (local/open (settings folder))
        at #(java.util.Date. (long (+ 1750000000000 (* % 60000))))
        put (fn [id instant & forms] (batch/write! opened {:batch-id id :tx-instant instant :tx-data (vec forms)}))]
    (schema/ensure! opened (schema/attributes nil))
    (dotimes [n 5]
      (put (str "b" n) (at n) (evaluation (str "e" n) (if (= n 3) 0.0 1.0) (at n))))
    (put "letter" #inst "2025-07-01" {:dead-letter/id "d1" :dead-letter/reason :poison})
    (put "again" #inst "2025-07-02" [:db/add [:evaluation/id "e3"] :evaluation/success-rate 1.0])))

(defn- versions []
  (sort (keep #(second (re-matches #"(.*)\.db" (.getName %))) (.listFiles kept))))

(deftest earlier-ones-are-read
  (is (<= 4 (count (versions))))
  (doseq [version (versions)]
    (testing version
      (let [folder (copy-of version)
            opened (local/open (settings folder))
            ask (fn [query & {:as more}] (:rows (question/ask opened (merge {:query query} more))))
            rate '[:find ?r . :where [?e :evaluation/id "e3"] [?e :evaluation/success-rate ?r]]]
        (schema/ensure! opened (schema/attributes nil))
        (is (zero? (schema/ensure! opened (schema/attributes nil))) "it is grown once")
        (is (= 5 (count (ask '[:find [?id ...] :where [_ :evaluation/id ?id]]))))
        (is (= ["d1"] (ask '[:find [?id ...] :where [_ :dead-letter/id ?id]])))
        (is (= [1.0] (ask rate)))
        (is (= [0.0] (ask rate :as-of #inst "2025-07-01T12:00")) "what was believed before")
        (is (= 5 (count (ask '[:find ?c :where [?e :evaluation/function-calls ?c] [?c :function-call/name "read_file"]]))))
        (is (false? (:duplicate (batch/write! opened {:batch-id "new" :tx-data [(evaluation "e9" 1.0 #inst "2026")]}))))
        (is (true? (:duplicate (batch/write! opened {:batch-id "b0" :tx-data [(evaluation "e0" 1.0 #inst "2025")]}))))))))

(deftest later-ones-are-refused
  (fixture/each-driver
   (fn [opened]
     (store/transact! opened [{:db/id "datomic.tx" :tx/schema-version (inc schema/version)}])
     (let [basis (store/basis-t opened)
           refusal (try (schema/ensure! opened (schema/attributes nil)) nil (catch Exception e e))]
       (is (schema/permanent? refusal))
       (is (str/includes? (ex-message refusal) "newer version"))
       (is (= basis (store/basis-t opened)) "nothing was changed")))))

(ns evalfleet.gateway.retention-test
  "The oldest goes, and nothing else, whatever is written meanwhile."
  (:require [clojure.java.io :as io]
            [clojure.test :refer [deftest is testing]]
            [evalfleet.gateway.batch :as batch]
            [evalfleet.gateway.fault :as fault]
            [evalfleet.gateway.fixture :as fixture :refer [evaluation]]
            [evalfleet.gateway.history :as history]
            [evalfleet.gateway.local :as local]
            [evalfleet.gateway.question :as question]
            [evalfleet.gateway.retention :as retention]
            [evalfleet.gateway.schema :as schema]
            [evalfleet.gateway.store :as store]
            [evalfleet.gateway.writers :as writers])
  (:import (java.util.concurrent Semaphore)))

(def ^:private cut #inst "2025-01-01")

(defn- fresh []
  (let [settings {:db-name "test" :driver :local :storage-dir (str (fixture/temporary-folder)) :uri "datomic:local://test"}
        opened (local/open settings)]
    (schema/ensure! opened (schema/attributes nil))
    (atom {:status :ready :settings settings :store opened})))

(defn- write! [state id instant & forms]
  (batch/write! (:store @state) {:batch-id id :tx-data (vec forms) :tx-instant instant}))

(defn- ask [state query & {:as more}]
  (:rows (question/ask (:store @state) (merge {:query query} more))))

(defn- ids [state & more]
  (set (apply ask state '[:find [?id ...] :where [_ :evaluation/id ?id]] more)))

(defn- retain! [state permits & {:as more}]
  (retention/begin! state (:store @state) permits (merge {:before cut} more))
  (loop []
    (let [now (retention/status state)]
      (if (= :running (:status now)) (do (Thread/sleep 20) (recur)) now))))

(defn- some-history [state]
  (write! state "b1" #inst "2024-01-01" (evaluation "old" 1.0 #inst "2024-01-01")
          {:dead-letter/id "handled" :dead-letter/handled :replayed} {:dead-letter/id "waits" :dead-letter/reason :poison})
  (write! state "b2" #inst "2024-02-01" (evaluation "amended" 0.0 #inst "2024-02-01") (evaluation "batch" 0.5 #inst "2024-02-01")
          (evaluation "older" 0.5 #inst "2024-02-01"))
  (write! state "b3" #inst "2025-08-01" [:db/add [:evaluation/id "amended"] :evaluation/success-rate 1.0])
  (write! state "b4" #inst "2025-09-01" (assoc (evaluation "new" 1.0 #inst "2025-09-01") :evaluation/batch [:evaluation/id "batch"])))

(deftest the-oldest-goes-and-moments-stay
  (let [state (fresh), permits (writers/make)]
    (some-history state)
    (let [log #(:transactions (history/tx-range (:store @state) {:limit 100}))
          before (log)
          basis (store/basis-t (:store @state))
          counted (retain! state permits :dry-run true)]
      (is (= {:status :done :changed false :evaluations 2 :letters 1}
             (select-keys counted [:status :changed :evaluations :letters])))
      (is (= before (log)) "counting changes nothing")
      (let [done (retain! state permits)]
        (is (= {:status :done :changed true :evaluations 2 :letters 1 :basis-t (inc basis)}
               (select-keys done [:status :changed :evaluations :letters :basis-t])) (pr-str done)))
      (testing "what stays"
        (is (= #{"amended" "batch" "new"} (ids state) (ids state :history true)))
        (is (= #{"waits"} (set (ask state '[:find [?id ...] :where [_ :dead-letter/id ?id]]))))
        (is (= [1.0] (ask state '[:find [?r ...] :where [?e :evaluation/id "amended"] [?e :evaluation/success-rate ?r]])))
        (is (= [0.0] (ask state '[:find [?r ...] :where [?e :evaluation/id "amended"] [?e :evaluation/success-rate ?r]]
                          :as-of #inst "2025-01-01")) "what was believed then")
        (is (= 3 (count (ask state '[:find [?c ...] :where [?c :function-call/name _]]))) "components go with their owner"))
      (testing "moments"
        (is (= (map (juxt :t :tx-instant) before) (map (juxt :t :tx-instant) (butlast (log)))))
        (is (= #{"amended" "batch"} (ids state :as-of #inst "2024-06-01") (ids state :as-of (- basis 2))))
        (is (= cut (first (ask state '[:find [?b ...] :where [_ :retention/before ?b]])))))
      (testing "it goes on"
        (is (false? (:duplicate (write! state "b5" nil (evaluation "later" 1.0 #inst "2025-10-01")))))
        (is (true? (:duplicate (write! state "b4" nil (evaluation "new" 1.0 #inst "2025-09-01")))) "batches are known"))
      (testing "a second one, and another opening"
        (let [{:keys [settings]} @state
              done (retain! state permits :before #inst "2025-08-15")]
          (is (= 1 (:evaluations done)) (pr-str done))
          (is (= #{"batch" "new" "later"} (ids state)) "what stays keeps what it refers to")
          (is (= [cut #inst "2025-08-15"] (sort (ask state '[:find [?b ...] :where [_ :retention/before ?b]]))))
          (is (= "test--2" (:db-name (:store @state)) (slurp (io/file (:storage-dir settings) "test.current")))))))))

(deftest what-is-written-meanwhile-is-there
  (let [state (fresh), permits (writers/make)]
    (dotimes [i 300]
      (write! state (str "old" i) (java.util.Date. (long (+ 1.7e12 (* 1000 i)))) (evaluation (str "old" i) 1.0 #inst "2024-01-01")))
    (some-history (doto state))
    (let [stop (atom false)
          writer (future (loop [i 0]
                           (if @stop
                             i
                             (do (.acquire ^Semaphore permits)
                                 (try (write! state (str "m" i) nil (evaluation (str "m" i) 1.0 #inst "2025-10-01"))
                                      (finally (.release ^Semaphore permits)))
                                 (recur (inc i))))))
          done (retain! state permits)
          _ (reset! stop true)
          written @writer]
      (is (= :done (:status done)) (pr-str done))
      (is (pos? written))
      (is (= (into #{"amended" "batch" "new"} (map #(str "m" %)) (range written)) (ids state))))))

(deftest what-was-to-go-and-is-written-to-stays
  (let [state (fresh), permits (writers/make)]
    (some-history state)
    (let [before (ids state)]
      ;; Between the survey and the copy, as early as the copy can hear of it.
      (with-redefs-fn {#'retention/enough-memory!
                       (fn [_] (write! state "late" nil [:db/add [:evaluation/id "old"] :evaluation/success-rate 0.0]))}
        #(is (= [:failed :busy] ((juxt :status :error) (retain! state permits)))))
      (is (= before (ids state)))
      (is (= "test" (:db-name (:store @state))))
      (is (not (.exists (io/file (:storage-dir (:settings @state)) "evalfleet" "test--1"))))
      (is (= 1 (:evaluations (retain! state permits))) "and the next one leaves it"))))

(deftest an-interrupted-one-leaves-nothing
  (let [state (fresh), {:keys [settings]} @state
        half (io/file (:storage-dir settings) "evalfleet" "test--1")]
    (write! state "b" #inst "2024-01-01" (evaluation "e" 1.0 #inst "2024-01-01"))
    (let [copy (local/successor settings (:store @state))]
      (schema/ensure! copy (schema/attributes nil))
      (is (.isDirectory half)))
    (let [another (io/file (:storage-dir settings) "evalfleet" "test--eval")]
      (.mkdirs another)
      (local/open settings)
      (is (.isDirectory another) "another database, whose name begins like this one's"))
    (is (not (.exists half)))
    (is (= #{"e"} (ids state)))))

(deftest bad-requests
  (let [state (fresh), permits (writers/make)
        kind-of (fn [f] (try (f) nil (catch Throwable t (fault/kind t))))]
    (is (= :bad-request (kind-of #(retain! state permits :before "yesterday"))))
    (is (= :bad-request (kind-of #(retain! state permits :before #inst "2999"))))
    (is (= :refused (kind-of #(retention/begin! (atom {:settings {:driver :peer}}) nil permits {:before cut}))))
    (is (= {:status :none} (retention/status state)))))

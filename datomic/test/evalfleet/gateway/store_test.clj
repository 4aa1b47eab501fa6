(ns evalfleet.gateway.store-test
  "What both drivers must do alike."
  (:require [clojure.test :refer [deftest is testing]]
            [evalfleet.gateway.batch :as batch]
            [evalfleet.gateway.fault :as fault]
            [evalfleet.gateway.fixture :refer [each-driver evaluation]]
            [evalfleet.gateway.heap :as heap]
            [evalfleet.gateway.history :as history]
            [evalfleet.gateway.question :as question]
            [evalfleet.gateway.readers :as readers]
            [evalfleet.gateway.schema :as schema]
            [evalfleet.gateway.store :as store]))

(defn- kind-of [f]
  (try (f) nil (catch Throwable t (or (fault/kind t) t))))

(defn- write! [opened id instant & forms]
  (batch/write! opened {:batch-id id :tx-data (vec forms) :tx-instant instant}))

(deftest a-batch-is-written-once
  (each-driver
   (fn [opened]
     (let [form (evaluation "e1" 0.5 #inst "2025-07-31T04:00")
           first-time (write! opened "b1" nil form)
           again (write! opened "b1" nil form)
           other (write! opened "b2" nil form)]
       (is (= {:duplicate false :datoms 7} (dissoc first-time :basis-t)))
       (is (= {:duplicate true :datoms 0 :basis-t (:basis-t first-time)} again))
       (testing "the same evaluation in another batch adds no datom"
         (is (= {:duplicate false :datoms 0} (dissoc other :basis-t))))))))

(deftest a-batch-that-arrives-twice-at-once-is-written-once
  (each-driver
   (fn [opened]
     (dotimes [round 20]
       (let [go (promise)
             calls (doall (for [i (range 4)]
                            (future @go (write! opened (str "b" round) nil
                                                (evaluation (str "e" round "-" i) 0.5 #inst "2025")))))]
         (deliver go true)
         (is (= 1 (count (remove :duplicate (map deref calls)))))
         (is (= 1 (count (set (map (comp :basis-t deref) calls))))))))))

(deftest history-is-imported-with-its-own-times
  (each-driver
   (fn [opened]
     (write! opened "b1" #inst "2025-07-31T04:00" (evaluation "e1" 0.5 #inst "2025-07-31T04:00"))
     (write! opened "b2" #inst "2025-07-31T06:00" (evaluation "e2" 1.0 #inst "2025-07-31T06:00"))
     (let [known #(set (map first (:rows (question/ask opened (merge {:query '[:find ?id :where [_ :evaluation/id ?id]]} %)))))]
       (is (= #{} (known {:as-of #inst "2025-07-31"})))
       (is (= #{"e1"} (known {:as-of #inst "2025-07-31T05:00"})))
       (is (= #{"e2"} (known {:since #inst "2025-07-31T05:00"})))
       (is (= #{"e1" "e2"} (known {}) (known {:as-of #inst "2025-07-31T06:00"}))))
     (is (= :tx-instant-past (kind-of #(write! opened "b3" #inst "2025-07-31T05:00" (evaluation "e3" 1.0 #inst "2025")))))
     (is (= :refused (kind-of #(write! opened "b4" #inst "2999" (evaluation "e3" 1.0 #inst "2025"))))))))

(deftest find-specs-have-their-shapes
  (each-driver
   (fn [opened]
     (write! opened "b1" nil (evaluation "e1" 0.5 #inst "2025-07-31T23:59:59.999"))
     (let [ask #(select-keys (question/ask opened {:query %}) [:rows :find])]
       (is (= {:find :relation :rows [["e1" 0.5]]}
              (ask '[:find ?id ?r :where [?e :evaluation/id ?id] [?e :evaluation/success-rate ?r]])))
       (is (= {:find :scalar :rows ["e1"]} (ask '[:find ?id . :where [_ :evaluation/id ?id]])))
       (is (= {:find :scalar :rows []} (ask '[:find ?id . :where [_ :suite/name ?id]])))
       (is (= {:find :collection :rows ["e1"]} (ask '[:find [?id ...] :where [_ :evaluation/id ?id]])))
       (is (= {:find :tuple :rows [["e1" 0.5]]}
              (ask '[:find [?id ?r] :where [?e :evaluation/id ?id] [?e :evaluation/success-rate ?r]])))
       (is (= {:find :maps :rows [{:date "2025-07-31" :avg-success 0.5}]}
              (ask '[:find ?d (avg ?r) :keys date avg-success :with ?e
                     :where [?e :evaluation/timestamp ?t] [?e :evaluation/success-rate ?r]
                     [(evalfleet.gateway.day/day ?t) ?d]])))
       (is (= {:find :relation :rows [["e1"]]}
              (ask '{:find [?id] :where [[_ :evaluation/id ?id]]})))
       (is (= {:find :relation :rows [[{:evaluation/id "e1"}]]}
              (ask '[:find (pull ?e [:evaluation/id]) :where [?e :evaluation/id]])))))))

(deftest rows-and-time-are-bounded
  (each-driver
   (fn [opened]
     (apply write! opened "b1" nil (for [i (range 5)] (evaluation (str "e" i) 0.5 #inst "2025")))
     (let [ask #(question/ask opened (merge {:query '[:find ?id :where [_ :evaluation/id ?id]]} %))]
       (is (= [2 true] ((juxt (comp count :rows) :truncated) (ask {:rows-max 2}))))
       (is (= [5 false] ((juxt (comp count :rows) :truncated) (ask {:rows-max 5}))))
       (is (= :bad-request (kind-of #(ask {:rows-max 0}))))
       (is (= :bad-request (kind-of #(ask {:timeout-ms 1000000}))))))))

(def ^:private multiplies
  "Sixteen million million rows of two thousand evaluations."
  '[:find ?w ?x ?y ?z
    :where [?a :evaluation/id ?x] [?b :evaluation/id ?y] [?c :evaluation/id ?z] [?d :evaluation/id ?w]])

(deftest a-query-that-does-not-end-is-stopped
  (each-driver
   (fn [opened]
     (apply write! opened "b1" nil (for [i (range 2000)] {:evaluation/id (str "e" i)}))
     (let [reading (readers/make)
           ask (fn [query timeout-ms]
                 (readers/run reading timeout-ms #(question/ask opened {:query query :timeout-ms timeout-ms})))]
       ;; More of them than may run at once: each gives its place back.
       (dotimes [_ 6]
         (is (= :timed-out (kind-of #(ask multiplies 300)))))
       ;; Filling the heap takes minutes: that each engine asks whether it is full is what is tried.
       (with-redefs [heap/short? (constantly true)]
         (is (= :too-large (kind-of #(ask multiplies 300000)))))
       (is (= [[2000]] (:rows (ask '[:find (count ?e) :where [?e :evaluation/id]] 30000))))))))

(deftest a-query-names-no-code
  (each-driver
   (fn [opened]
     (doseq [query '[[:find ?x :where [(slurp "/etc/hostname") ?x]]
                     [:find ?x :where [(ground (slurp "/etc/hostname")) ?x]]
                     [:find ?x :where [(java.lang.System/getenv "HOME") ?x]]
                     [:find ?x :where [(datomic.api/q "[:find 1]" $) ?x]]
                     [:find (clojure.core/eval ?x) :where [_ :evaluation/id ?x]]
                     [:find (pull ?e [[:evaluation/id :xform slurp]]) :where [?e :evaluation/id]]
                     [:find (pull ?e [[:evaluation/id :xform "slurp"]]) :where [?e :evaluation/id]]
                     "[:find ?x :where [(slurp \"x\") ?x]]"
                     (:find ?x)
                     [:find ?x :timeout 1 :where [_ :evaluation/id ?x]]
                     [:find ?x :where [?e :evaluation/id ?id]]]]
       (is (= :bad-query (kind-of #(question/ask opened {:query query}))) (pr-str query)))
     (is (= :bad-query (kind-of (fn [] (question/ask opened '{:query [:find ?x :in $ % :where (r ?x)]
                                                              :args [[[(r ?x) [(slurp "x") ?x]]]]})))))
     (is (= :bad-query (kind-of (fn [] (question/ask opened '{:query [:find ?x :in $ % :where (slurp ?x)]
                                                              :args [[[(slurp ?x) [?x :evaluation/id]]]]})))))
     (is (= :bad-query (kind-of #(question/pull opened '{:pattern [(xform :evaluation/id slurp)] :eid [:evaluation/id "e"]})))))))

(deftest a-transaction-has-a-shape
  (each-driver
   (fn [opened]
     (doseq [form '[(slurp "x")
                    [:my/function 1]
                    [:db/retractEntity 1]
                    [:db.fn/call slurp]
                    {:db/ident :my/attribute}
                    {:evaluation/id "x" :db/doc "x"}
                    {:evaluation/id (slurp "x")}
                    {:evaluation/id slurp}
                    {:evaluation/id ["a" (slurp "x")]}
                    {:evaluation/id "x" :evaluation/success-rate 1M}
                    {:evaluation/id "x" :evaluation/success-rate ##NaN}
                    {:evaluation/id nil}
                    {"evaluation/id" "x"}
                    {:tx/batch-id "x"}
                    [:db/add :evaluation/id :db/doc "x"]
                    [:db/add "t" :db/ident :x/y]
                    [:db/add [:db/ident :evaluation/id] :evaluation/key "x"]
                    {:db/id "t" :db.install/_attribute :db.part/db}]]
       (is (= :bad-request (kind-of #(write! opened "b" nil form))) (pr-str form)))
     (is (= :bad-request (kind-of #(write! opened "b" nil {:evaluation/id (apply str (repeat 4097 "x"))}))))
     (is (= :bad-request (kind-of #(write! opened "" nil {:evaluation/id "x"}))))
     (testing "what Datomic itself refuses"
       (is (= :refused (kind-of #(write! opened "b" nil {:evaluation/id "x" :evaluation/success-rate 1}))))
       (is (= :refused (kind-of #(write! opened "b" nil {:not/known "x"})))))
     (testing "the allowed forms"
       (is (= 2 (:datoms (write! opened "b1" nil {:evaluation/id "x" :evaluation/attempt 1}))))
       (is (= 2 (:datoms (write! opened "b2" nil [:db/cas [:evaluation/id "x"] :evaluation/attempt 1 2]))))
       (is (= :refused (kind-of #(write! opened "b3" nil [:db/cas [:evaluation/id "x"] :evaluation/attempt 1 3]))))
       (is (= 1 (:datoms (write! opened "b4" nil [:db/retract [:evaluation/id "x"] :evaluation/attempt 2]))))
       (is (= 0 (:datoms (write! opened "b5" nil {:db/id "datomic.tx" :tx/recorder "r1"}))))))))

(deftest pulls-an-entity-or-nothing
  (each-driver
   (fn [opened]
     (write! opened "b1" nil (evaluation "e1" 0.5 #inst "2025"))
     (let [pull #(:entity (question/pull opened {:pattern '[:evaluation/id {:evaluation/function-calls [:function-call/name]}] :eid %}))]
       (is (= {:evaluation/id "e1" :evaluation/function-calls [{:function-call/name "read_file"}]} (pull [:evaluation/id "e1"])))
       (is (nil? (pull [:evaluation/id "none"])))
       (is (nil? (pull 123456789)))
       (is (= :bad-request (kind-of #(pull "e1"))))))))

(deftest the-log-is-read-in-stretches
  (each-driver
   (fn [opened]
     (doseq [i (range 5)] (write! opened (str "b" i) nil (evaluation (str "e" i) 0.5 #inst "2025")))
     (let [stretches (->> {:next-t 0}
                          (iterate #(history/tx-range opened {:start (:next-t %) :limit 2}))
                          rest
                          (take 12))
           all (mapcat :transactions stretches)]
       (is (= 7 (count all)) "the schema, its version and five batches")
       (is (= 7 (count (distinct (map :t all)))))
       (is (= (sort (map :t all)) (map :t all)))
       (is (every? :tx-instant all))
       (is (= #inst "2000-01-01" (:tx-instant (first all))))
       (is (= ["e0" "e1" "e2" "e3" "e4"] (for [{:keys [datoms]} all, [_ a v added] datoms
                                               :when (and (= :evaluation/id a) added)]
                                           v)))
       (is (> (:next-t (last stretches)) (:basis-t (last stretches))))))))

(deftest the-schema-grows-and-never-alters
  (each-driver
   (fn [opened]
     (let [wanted (schema/attributes nil)
           extra {:db/ident :my/attribute :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
           before (store/basis-t opened)]
       (is (= 0 (schema/ensure! opened wanted)))
       (is (= before (store/basis-t opened)))
       (is (= 1 (schema/ensure! opened (conj wanted extra))))
       (is (= 0 (schema/ensure! opened (conj wanted extra))))
       (is (thrown-with-msg? Exception #":my/attribute"
                             (schema/ensure! opened [(assoc extra :db/valueType :db.type/long)])))))))

(ns evalfleet.gateway.retention
  "Lets the oldest of a history go. Datomic Local cannot excise, so what stays is written into a fresh
  database, transaction by transaction, in their order and with their times:

      log ──▶ what stays? ──▶ copied, while all goes on ──▶ the rest, while writers wait ──▶ the new one is it

  Every transaction keeps its place: one of which nothing stays is there with its time alone. So moments
  before and after mean the same, as instants and as t. What went is noted in the history itself, as
  `:retention/before` of the transaction that ends the copy.

  An entity stays when it was last written to at or after the cut, when something that stays refers to it,
  or when it is a dead letter that still waits. It stays whole, with all that was ever said of it."
  (:require [evalfleet.gateway.fault :as fault :refer [fault]]
            [evalfleet.gateway.files :as files]
            [evalfleet.gateway.local :as local]
            [evalfleet.gateway.log :as log]
            [evalfleet.gateway.store :as store]
            [evalfleet.gateway.writers :as writers])
  (:import (java.util ArrayDeque Date HashMap HashSet)))

(def ^:private at-once
  "Transactions read at a time."
  64)

(def ^:private behind-max
  "Writers wait from when no more than so many transactions are to be copied."
  32)

(def ^:private lasting-ms
  "How long the old database stands after the swap, for questions that still read it."
  (* 2 60 1000))

(def ^:private transactions-partition 3)

(defn- transaction? [e] (= transactions-partition (bit-shift-right (long e) 42)))

(defn- log-of
  "Transactions from `start` up to `end`, lazily, each with its instant."
  [opened instant-attribute start end]
  (lazy-seq
   (when (<= start end)
     (let [chunk (store/tx-range opened start at-once)]
       (when-let [newest (:t (peek chunk))]
         (concat (for [{:keys [t datoms] :as transaction} chunk
                       :when (<= t end)]
                   (assoc transaction :instant (some (fn [[_ a v _]] (when (= instant-attribute a) v)) datoms)))
                 (log-of opened instant-attribute (inc newest) end)))))))

(defn- bootstrap?
  "Those transactions that Datomic itself makes a database of."
  [{:keys [^Date instant]}]
  (or (nil? instant) (zero? (.getTime instant))))

(defn- attributes
  "What is known of attributes: {:ident {id ident}, :id {ident id}, :refs #{id}}."
  [opened]
  (let [rows (store/q opened '[:find ?a ?ident ?type :where [?a :db/valueType ?t] [?t :db/ident ?type] [?a :db/ident ?ident]]
                      (store/database opened {}))]
    {:ident (into {} (map (fn [[a ident _]] [a ident])) rows)
     :id (into {} (map (fn [[a ident _]] [ident a])) rows)
     :refs (into #{} (keep (fn [[a _ kind]] (when (= :db.type/ref kind) a))) rows)}))

(defn- survey
  "One reading of the log: when each entity was last written to, what refers to what, and what kinds there are."
  [transactions {:keys [id refs]} tell]
  (let [touched (HashMap.), edges (HashMap.), lasting (HashSet.)
        evaluations (HashSet.), letters (HashSet.), handled (HashSet.)
        ident (id :db/ident), evaluation (id :evaluation/id), letter (id :dead-letter/id), done (id :dead-letter/handled)]
    (doseq [{:keys [^Date instant datoms] :as transaction} transactions]
      (tell)
      (doseq [[e a v added] datoms
              :when (not (transaction? e))]
        (when (or (= a ident) (bootstrap? transaction)) (.add lasting e))
        (.put touched e (if instant (.getTime instant) 0))
        (when added
          (cond
            (= a evaluation) (.add evaluations e)
            (= a letter) (.add letters e)
            (= a done) (.add handled e)
            (and (refs a) (not (transaction? v))) (.put edges e (conj (.getOrDefault edges e []) v))))))
    {:touched touched :edges edges :lasting lasting :evaluations evaluations :letters letters :handled handled}))

(defn- staying
  "The entities that stay."
  [{:keys [^HashMap touched ^HashMap edges ^HashSet lasting ^HashSet letters ^HashSet handled]} ^Date before]
  (let [stays (HashSet. lasting), open (ArrayDeque.)]
    (doseq [[e at] touched
            :when (or (>= at (.getTime before)) (and (.contains letters e) (not (.contains handled e))))]
      (.add stays e))
    (.addAll open stays)
    (while (not (.isEmpty open))
      (doseq [v (.getOrDefault edges (.pop open) [])]
        (when (.add stays v) (.push open v))))
    stays))

(defn- gone [^HashSet of ^HashSet stays]
  (count (remove #(.contains stays %) of)))

(defn- own?
  "What Datomic adds by itself when an attribute is installed."
  [ident]
  (#{"db.install" "db.alter"} (namespace ident)))

(defn- forms
  "Transaction data that says of the entities that stay what `datoms` say. `ids` maps entities of the old
  database to those of the new; an unknown one has a temporary id."
  [datoms {:keys [ident refs]} ^HashSet stays ^HashMap ids]
  (let [named #(cond (transaction? %) %
                     :else (or (.get ids %) (str %)))]
    (for [[e a v added] datoms
          :when (and (not (transaction? e)) (.contains stays e) (not (own? (ident a))))]
      [(if added :db/add :db/retract) (named e) (ident a) (if (refs a) (named v) v)])))

(defn- about-itself
  "What a transaction says of itself: all of it, when anything else of it stays; else what went with it."
  [datoms {:keys [ident]} any-stays?]
  (for [[e a v added] datoms
        :let [attribute (ident a)]
        :when (and (transaction? e) added (not= :db/txInstant attribute)
                   (or any-stays? (= "retention" (namespace attribute))))]
    [:db/add "datomic.tx" attribute v]))

(defn- copy!
  "Writes what stays of one transaction, as the transaction of the same t. Answers how many facts that are."
  [target known stays ^HashMap ids {:keys [t instant datoms]}]
  (let [time [:db/add "datomic.tx" :db/txInstant instant]]
    ;; One that failed half-way may have left a gap.
    (while (< (inc (store/basis-t target)) t)
      (store/transact! target [time]))
    (let [facts (vec (forms datoms known stays ids))
          whole (into [time] (concat facts (about-itself datoms known (some? (seq facts)))))
          written (store/transact! target whole)]
      (doseq [[text e] (:tempids written)
              :let [old (parse-long text)]
              :when old]
        (.put ids old e))
      (when (not= t (:basis-t written))
        (throw (fault :defect (str "transaction " t " became " (:basis-t written) ": nothing was changed"))))
      (when-let [[_ _ attribute] (first (remove #(own? (nth % 2)) (when (< (count (:datoms written)) (count whole)) whole)))]
        (throw (fault :defect (str "transaction " t " lost facts, of " attribute " perhaps: nothing was changed"))))
      (count facts))))

(defn- enough-memory!
  "Both databases are in memory at once, until the old one goes."
  [share]
  (System/gc)
  (let [runtime (Runtime/getRuntime)
        used (- (.totalMemory runtime) (.freeMemory runtime))
        wanted (* used (+ 1.2 share))]
    (when (> wanted (.maxMemory runtime))
      (throw (fault :refused (format "the old and the new history do not fit into memory together: they need some %.0f MiB, and the gateway has %.0f. Start it with EVALFLEET_GATEWAY_HEAP=%.0fm"
                                     (/ wanted 1048576.0) (/ (.maxMemory runtime) 1048576.0) (/ (* 1.3 wanted) 1048576.0)))))))

(defn- keep-late!
  "What is written after the survey stays. When it says something of an entity that was to go, or refers to
  one, that one's own facts are not in the copy any more: then all is for nothing, and is to be done again."
  [{:keys [datoms]} {:keys [refs]} ^HashMap touched ^HashSet stays]
  (doseq [[e a v _] datoms
          entity (if (refs a) [e v] [e])
          :when (not (transaction? entity))]
    (when (and (.containsKey touched entity) (not (.contains stays entity)))
      (throw (fault :busy "what was to go was written to meanwhile: nothing was changed, run it again")))
    (.add stays entity)))

(defn- copy-range! [{:keys [source target known stays ids touched surveyed instant-attribute tell]} start end]
  (doseq [{:keys [t] :as transaction} (log-of source instant-attribute start end)
          :when (not (bootstrap? transaction))]
    (when (> t surveyed) (keep-late! transaction known touched stays))
    (copy! target known stays ids transaction)
    (tell t)))

(defn- catch-up!
  "Copies until few transactions are left; answers the t to go on at."
  [{:keys [source] :as course} start]
  (let [end (store/basis-t source)]
    (if (<= (- end start) behind-max)
      start
      (do (copy-range! course start end)
          (recur course (inc end))))))

(defn- plan
  "What would stay and what would go."
  [source before tell]
  (let [known (attributes source)
        surveyed (store/basis-t source)
        instant-attribute (:db/id (store/pull source (store/database source {}) [:db/id] :db/txInstant))
        transactions (log-of source instant-attribute 0 surveyed)
        {:keys [touched evaluations letters] :as found} (survey transactions known tell)
        stays (staying found before)
        ids (HashMap.)]
    (doseq [{:keys [datoms]} (take-while bootstrap? (log-of source instant-attribute 0 surveyed))
            [e] datoms]
      (.put ids e e))
    {:source source :known known :stays stays :ids ids :touched touched :surveyed surveyed
     :instant-attribute instant-attribute
     :share (/ (double (.size ^HashSet stays)) (max 1 (.size ^HashMap touched)))
     :report {:before before
              :evaluations (gone evaluations stays)
              :letters (gone letters stays)
              :entities (gone (set (keys touched)) stays)
              :of (.size ^HashMap touched)}}))

(defn- carry-out! [settings state places course]
  (let [{:keys [source report]} course
        target (local/successor settings source)
        course (assoc course :target target)]
    (try
      (let [start (catch-up! course 0)]
        (writers/still
         places
         (fn []
           (copy-range! course start (store/basis-t source))
           (store/transact! target [[:db/add "datomic.tx" :retention/before (:before report)]
                                    [:db/add "datomic.tx" :retention/evaluations (:evaluations report)]
                                    [:db/add "datomic.tx" :retention/letters (:letters report)]])
           (local/install! settings target)
           (swap! state assoc :store target))))
      (catch Throwable t
        (local/remove! settings target)
        (throw t)))
    (doto (Thread. #(do (Thread/sleep (long lasting-ms)) (local/remove! settings source)) "retention-sweep")
      (.setDaemon true)
      (.start))
    (assoc report :basis-t (store/basis-t target))))

(defn- checked [{:keys [driver]} {:keys [before dry-run]}]
  (when-not (= :local driver)
    (throw (fault :refused (str "only Datomic Local is cut here: a database in memory has nothing to keep, "
                                "and one behind a transactor has excision"))))
  (when-not (and (instance? Date before) (.before ^Date before (Date.)))
    (throw (fault :bad-request ":before must be an #inst of the past")))
  (when-not (or (nil? dry-run) (boolean? dry-run))
    (throw (fault :bad-request ":dry-run must be true or false"))))

(defn status
  "What the last one came to, or how far this one is."
  [state]
  (:retention @state {:status :none}))

(defn- run [state opened places {:keys [before dry-run]}]
  (let [{:keys [settings]} @state
        note #(swap! state update :retention merge %)
        of (store/basis-t opened)
        surveyed (atom 0)]
    (try
      (let [course (plan opened before #(note {:step :survey :transactions (swap! surveyed inc) :of-transactions of}))
            course (assoc course :tell #(note {:step :copy :transactions % :of-transactions of}))]
        (if (or dry-run (zero? (:entities (:report course))))
          (note (assoc (:report course) :status :done :changed false))
          (do
            (enough-memory! (:share course))
            (files/room! (:storage-dir settings) (files/size (local/folder settings (:db-name opened))))
            (let [report (carry-out! settings state places course)]
              (log/info "retention: " (:evaluations report) " evaluations and " (:letters report)
                        " dead letters last written to before " (.toInstant ^Date before) " are gone")
              (note (assoc report :status :done :changed true))))))
      (catch Throwable t
        (let [t (if (fault/fault? t) t (fault/of-transaction t))]
          (log/warn "retention: " (.getMessage ^Throwable t))
          (note {:status :failed :error (fault/kind t) :message (.getMessage ^Throwable t)}))))))

(defn begin!
  "Begins to let go what was last written to before `:before`, or with `:dry-run` to count it. One at a time;
  `status` tells how far it is."
  [state opened places request]
  (checked (:settings @state) request)
  (let [mine (Object.)
        begun (swap! state update :retention
                     #(if (= :running (:status %)) % {:status :running :id mine :before (:before request)
                                                      :dry-run (boolean (:dry-run request))}))]
    (when-not (identical? mine (get-in begun [:retention :id]))
      (throw (fault :busy "one is at work already: see how far it is")))
    (swap! state update :retention dissoc :id)
    (doto (Thread. #(run state opened places request) "retention") (.setDaemon true) (.start))
    (status state)))

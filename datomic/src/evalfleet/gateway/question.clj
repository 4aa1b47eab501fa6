(ns evalfleet.gateway.question
  "Reading: queries and pulls. People's queries come through a guard with a full grammar (in the
  Rust client); what is here is the last line behind it, and holds for every caller: a query is data
  with no symbol that could name code. Find specs are done here, since Datomic Local knows only plain
  relations, so both drivers answer alike."
  (:require [clojure.string :as str]
            [evalfleet.gateway.fault :as fault :refer [fault]]
            [evalfleet.gateway.store :as store])
  (:import (java.util Date)))

(def rows-max 100000)
(def ^:private rows-default 10000)
(def timeout-ms-max 300000)
(def ^:private timeout-ms-default 30000)

(def ^:private words
  "Every symbol that a query may hold, beside variables, sources and rule names."
  '#{_ % ... . * $
     not or and not-join or-join
     = != < <= > >= + - / quot mod count
     get-else missing? ground tuple untuple
     sum avg count-distinct min max median variance stddev distinct
     pull limit default
     evalfleet.gateway.day/day})

(defn- leaves [form]
  (remove coll? (tree-seq coll? seq form)))

(defn- variable? [s]
  (and (nil? (namespace s)) (contains? #{\? \$} (first (name s)))))

(defn- rule-names
  "Heads of the rules among the arguments: lists of rules, each [(name ?x …) clause …]."
  [args]
  (for [arg args
        :when (sequential? arg)
        rule arg
        :when (and (sequential? rule) (seq? (first rule)))
        :let [head (ffirst rule)]
        :when (symbol? head)]
    head))

(defn- own-name? [s]
  (and (nil? (namespace s))
       (not (str/includes? (name s) "."))
       (nil? (ns-resolve 'clojure.core s))))

(defn check-symbols
  "Refuses a query, or a pattern, that holds a symbol from outside the list."
  [query args]
  (let [allowed (into words (filter own-name?) (rule-names args))]
    (doseq [leaf (concat (leaves query) (leaves args))]
      (cond
        (and (symbol? leaf) (not (allowed leaf)) (not (variable? leaf)))
        (throw (fault :bad-query (str "not allowed in a query: " leaf)))
        (= :xform leaf)
        (throw (fault :bad-query "not allowed in a pull pattern: :xform"))))))

(def ^:private clause-keys [:find :keys :syms :strs :with :in :where])

(defn- map-form [query]
  (cond
    (map? query) query
    (vector? query) (into {}
                          (map (fn [[[k] items]] [k (vec items)]))
                          (partition-all 2 (partition-by (set clause-keys) query)))
    :else (throw (fault :bad-query ":query must be a vector or a map"))))

(defn- checked [query]
  (let [unknown (remove (set clause-keys) (keys query))]
    (when (seq unknown)
      (throw (fault :bad-query (str "a query has no clause " (str/join " " unknown)))))
    (when-not (and (every? vector? (vals query)) (seq (:find query)))
      (throw (fault :bad-query "a query needs :find, and each clause of it a vector")))
    query))

(defn- find-spec
  "The shape that the query asks for, and the plain elements to ask Datomic for."
  [{:keys [find] labels :keys syms :syms strs :strs}]
  (let [[head & tail] find
        label (cond labels [keyword labels] syms [symbol syms] strs [str strs])]
    (cond
      (= '[.] tail) {:find :scalar :elements [head]}
      (and (vector? head) (nil? tail) (= '... (last head))) {:find :collection :elements (pop head)}
      (and (vector? head) (nil? tail)) {:find :tuple :elements head}
      label (let [[as names] label]
              (when (not= (count names) (count find))
                (throw (fault :bad-query (str ":keys names " (count names) " columns of " (count find)))))
              {:find :maps :elements find :names (mapv as names)})
      :else {:find :relation :elements find})))

(defn- shaped [{:keys [find names]} rows]
  (case find
    :scalar (into [] (comp (take 1) (map first)) rows)
    :collection (into [] (map first) rows)
    :tuple (into [] (take 1) rows)
    :maps (mapv #(zipmap names %) rows)
    :relation (vec rows)))

(defn- point [k v]
  (when-not (or (nil? v) (instance? Date v) (and (instance? Long v) (not (neg? v))))
    (throw (fault :bad-request (str k " must be an #inst or a t"))))
  v)

(defn- bounded [k v default most]
  (cond
    (nil? v) default
    (and (instance? Long v) (<= 1 v most)) v
    :else (throw (fault :bad-request (str k " must be a number from 1 to " most)))))

(defn timeout-ms
  "The time limit that a request asks for."
  [request]
  (bounded :timeout-ms (:timeout-ms request) timeout-ms-default timeout-ms-max))

(defn- view [request]
  {:as-of (point :as-of (:as-of request))
   :since (point :since (:since request))
   :history (true? (:history request))})

(defn ask
  "Answers {:rows [...] :find shape :basis-t t :truncated bool}."
  [store {:keys [query args] :as request}]
  (when-not (or (nil? args) (vector? args))
    (throw (fault :bad-request ":args must be a vector")))
  (let [form (checked (map-form query))
        spec (find-spec form)
        limit (bounded :rows-max (:rows-max request) rows-default rows-max)
        ;; Labels never reach Datomic, so they may be any words.
        plain (-> form (dissoc :keys :syms :strs) (assoc :find (:elements spec)))
        _ (check-symbols plain args)
        basis (store/basis-t store)]
    (try
      (let [db (store/database store (view request))
            rows (store/query store plain (into [db] args)
                              {:timeout-ms (timeout-ms request) :rows-max (inc limit)})]
        {:rows (shaped spec (take limit rows))
         :find (:find spec)
         :basis-t basis
         :truncated (boolean (seq (drop limit rows)))})
      (catch Throwable t (throw (fault/of-query t))))))

(defn- entity [eid]
  (when-not (or (instance? Long eid)
                (and (vector? eid) (= 2 (count eid)) (qualified-keyword? (first eid))
                     (not (coll? (second eid))) (not (symbol? (second eid)))))
    (throw (fault :bad-request ":eid must be an entity id or a lookup ref [attribute value]")))
  eid)

(defn pull
  "Answers {:entity map-or-nil :basis-t t}."
  [store {:keys [pattern eid] :as request}]
  (when-not (vector? pattern) (throw (fault :bad-request ":pattern must be a vector")))
  (check-symbols pattern nil)
  (let [basis (store/basis-t store)]
    (try
      {:entity (store/pull store (store/database store (view request)) pattern (entity eid))
       :basis-t basis}
      (catch Throwable t (throw (fault/of-query t))))))

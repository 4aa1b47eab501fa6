(ns evalfleet.gateway.wire
  "EDN in and out, bounded. In: `clojure.edn` only (never `read-string` of clojure.core, which
  executes `#=(...)`), no readers beside #inst and #uuid, no metadata, one form, a depth limit. Out: a
  writer of its own, because `pr` is several times slower and a reply may hold 100 000 datoms."
  (:require [clojure.edn :as edn]
            [evalfleet.gateway.fault :refer [fault]])
  (:import (clojure.lang Keyword Symbol)
           (java.io PushbackReader StringReader)
           (java.nio.charset CodingErrorAction StandardCharsets)
           (java.nio ByteBuffer)
           (java.time.temporal ChronoUnit)
           (java.util Date List Map Set UUID)))

(def depth-max 64)
(def reply-chars-max (* 64 1024 1024))

(defmacro ^:private is?
  "Whether the code of a character is one of these. `case` on characters boxes each of them, and a batch has a million."
  [code & characters]
  `(or ~@(for [c characters] `(== ~code ~(int c)))))

(defn- after-string
  "The place after the string that begins at `start`."
  ^long [^String text ^long start]
  (let [n (.length text)]
    (loop [j (inc start)]
      (if (>= j n)
        n
        (let [c (int (.charAt text (int j)))]
          (cond (is? c \\) (recur (+ j 2))
                (is? c \") (inc j)
                :else (recur (inc j))))))))

(defn- check-nesting
  "Refuses text nested deeper than `depth-max`, or with metadata, before any reader recurses into it."
  [^String text]
  (let [n (.length text)
        most (long depth-max)]
    (loop [i 0, depth 0, marks 0]
      (when (or (> depth most) (> marks most))
        (throw (fault :bad-request (str "EDN nested deeper than " depth-max))))
      (when (< i n)
        (let [c (int (.charAt text (int i)))]
          (cond
            (is? c \") (recur (after-string text i) depth 0)
            (is? c \;) (recur (let [end (.indexOf text "\n" (int i))] (if (neg? end) n (inc end))) depth marks)
            (is? c \\) (recur (+ i 2) depth 0)
            (is? c \( \[ \{) (recur (inc i) (inc depth) 0)
            (is? c \) \] \}) (recur (inc i) (dec depth) 0)
            (is? c \#) (recur (inc i) depth (inc marks))
            (is? c \^) (throw (fault :bad-request "EDN metadata (^) is not accepted"))
            :else (recur (inc i) depth marks)))))))

(defn- decode [^bytes bytes]
  (try
    (-> StandardCharsets/UTF_8 .newDecoder
        (.onMalformedInput CodingErrorAction/REPORT)
        (.onUnmappableCharacter CodingErrorAction/REPORT)
        (.decode (ByteBuffer/wrap bytes))
        str)
    (catch java.nio.charset.CharacterCodingException e
      (throw (fault :bad-request "the body is not UTF-8" e)))))

(def ^:private end (Object.))

(def ^:private options
  {:eof end
   :readers {}
   :default (fn [tag _] (throw (ex-info (str "unknown tag #" tag) {})))})

(defn parse
  "The one EDN form that the text holds."
  [^String text]
  (check-nesting text)
  (try
    (with-open [reader (PushbackReader. (StringReader. text))]
      (let [form (edn/read options reader)]
        (cond
          (identical? end form) (throw (ex-info "it is empty" {}))
          (not (identical? end (edn/read options reader))) (throw (ex-info "more than one form" {}))
          :else form)))
    (catch StackOverflowError e
      (throw (fault :bad-request "EDN nested too deep" e)))
    (catch Exception e
      (throw (fault :bad-request (str "the body is not EDN: " (.getMessage e)) e)))))

(defn parse-bytes [bytes] (parse (decode bytes)))

(declare write)

(defn- write-all [^StringBuilder out open items close]
  (.append out ^String open)
  (reduce (fn [first? item]
            (when-not first? (.append out " "))
            (write out item)
            false)
          true items)
  (.append out ^String close))

(defn- escape
  "How the character of this code stands in a string; nil for those that stand for themselves."
  [^long code]
  (cond (is? code \") "\\\""
        (is? code \\) "\\\\"
        (is? code \newline) "\\n"
        (is? code \return) "\\r"
        (is? code \tab) "\\t"))

(defn- write-string
  "Stretches without anything to escape are copied as a whole."
  [^StringBuilder out ^String s]
  (let [n (.length s)]
    (.append out \")
    (loop [begin 0, i 0]
      (if (< i n)
        (if-let [escaped (escape (int (.charAt s (int i))))]
          (do (.append out s (int begin) (int i))
              (.append out ^String escaped)
              (recur (inc i) (inc i)))
          (recur begin (inc i)))
        (.append out s (int begin) (int n))))
    (.append out \")))

(defn- write-double [^StringBuilder out ^double d]
  (cond
    (Double/isNaN d) (.append out "##NaN")
    (Double/isInfinite d) (.append out (if (pos? d) "##Inf" "##-Inf"))
    :else (.append out d)))

(defn- write-map [^StringBuilder out ^Map m]
  (.append out "{")
  (reduce (fn [first? ^java.util.Map$Entry e]
            (when-not first? (.append out ", "))
            (write out (.getKey e))
            (.append out " ")
            (write out (.getValue e))
            false)
          true (.entrySet m))
  (.append out "}"))

(defn- write [^StringBuilder out x]
  (when (> (.length out) reply-chars-max)
    (throw (fault :too-large (str "the reply is larger than " reply-chars-max " characters: ask for fewer rows"))))
  (cond
    (nil? x) (.append out "nil")
    (instance? String x) (write-string out x)
    (instance? Long x) (.append out (.longValue ^Long x))
    (instance? Keyword x) (.append out (str x))
    (instance? Double x) (write-double out x)
    (instance? Boolean x) (.append out (.booleanValue ^Boolean x))
    ;; RFC 3339 in UTC with milliseconds, as everything that reads #inst understands.
    (instance? Date x) (doto out (.append "#inst \"")
                         (.append (.format java.time.format.DateTimeFormatter/ISO_INSTANT
                                           (.truncatedTo (.toInstant ^Date x) ChronoUnit/MILLIS)))
                         (.append "\""))
    (instance? UUID x) (doto out (.append "#uuid \"") (.append (str x)) (.append "\""))
    (instance? Map x) (write-map out x)
    (instance? Set x) (write-all out "#{" x "}")
    (instance? List x) (write-all out "[" x "]")
    (sequential? x) (write-all out "[" x "]")
    (instance? Symbol x) (.append out (str x))
    (or (instance? Integer x) (instance? Short x)) (.append out (long x))
    (instance? Float x) (write-double out (double x))
    (or (instance? clojure.lang.BigInt x) (instance? BigInteger x)) (.append out (str x "N"))
    (instance? BigDecimal x) (.append out (str x "M"))
    (instance? clojure.lang.Ratio x) (write-double out (double x))
    (instance? java.net.URI x) (write-string out (str x))
    (.isArray (class x)) (write-all out "[" (seq x) "]")
    :else (throw (ex-info (str "no EDN for a " (class x)) {}))))

(defn emit
  "The value as EDN bytes (UTF-8)."
  ^bytes [x]
  (let [out (StringBuilder. 512)]
    (write out x)
    (.getBytes (.toString out) StandardCharsets/UTF_8)))

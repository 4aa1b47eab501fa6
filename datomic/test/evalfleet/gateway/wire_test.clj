(ns evalfleet.gateway.wire-test
  (:require [clojure.edn :as edn]
            [clojure.test :refer [deftest is]]
            [evalfleet.gateway.fault :as fault]
            [evalfleet.gateway.wire :as wire]))

(defn- refused? [text]
  (try (wire/parse text) false (catch Exception e (= :bad-request (fault/kind e)))))

(deftest reads-data-and-nothing-else
  (is (= {:a [1 "x" #inst "2025" #uuid "00000000-0000-0000-0000-000000000001"]}
         (wire/parse "{:a [1 \"x\" #inst \"2025\" #uuid \"00000000-0000-0000-0000-000000000001\"]} ; end")))
  (doseq [text ["#=(+ 1 2)" "#=(System/exit 1)" "#foo 1" "#db/fn {}" "^:a []" "1 2" "" "(" "#\"x\"" "#(+ 1)" "@a"
                (apply str (repeat 100000 "["))
                (apply str (repeat 100000 "#_ "))
                (apply str (repeat 100000 "#a "))]]
    (is (refused? text) (subs text 0 (min 40 (count text)))))
  (is (= \( (wire/parse "\\(")))
  (is (= "((((" (wire/parse "\"((((\""))))

(deftest refuses-bytes-that-are-no-text
  (is (thrown? Exception (wire/parse-bytes (byte-array [(byte 34) (byte -1) (byte 34)])))))

(deftest writes-what-any-reader-reads
  (let [value {:a [1 -2.5 true nil "q\"\\\n\u00e9" :k/w #{1} '(sym)]
               :t #inst "2025-07-31T04:05:06.789"
               :u #uuid "00000000-0000-0000-0000-000000000001"}]
    (is (= value (edn/read-string (String. (wire/emit value) "UTF-8")))))
  (is (= "#inst \"2025-07-31T04:05:06.789Z\"" (String. (wire/emit #inst "2025-07-31T04:05:06.789") "UTF-8"))))

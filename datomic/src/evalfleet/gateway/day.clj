(ns evalfleet.gateway.day
  "The one function that a query may call beside Datomic's own: the UTC day of an instant. It
  stands in for `(java.time.LocalDate/from ?timestamp)`, which throws on Datomic's java.util.Date."
  (:import (java.time ZoneOffset)
           (java.util Date)))

(defn day
  "\"YYYY-MM-DD\", UTC."
  [^Date instant]
  (-> (.toInstant instant) (.atZone ZoneOffset/UTC) .toLocalDate str))

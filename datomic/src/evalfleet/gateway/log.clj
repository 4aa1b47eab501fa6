(ns evalfleet.gateway.log
  "Log lines on standard error: time, level, message. Secrets are the callers' to keep out."
  (:import (java.time Instant)
           (java.time.temporal ChronoUnit)))

(defn- line [level & words]
  (let [text (apply str (.truncatedTo (Instant/now) ChronoUnit/MILLIS) " " level " gateway: " words)]
    (locking *err*
      (binding [*out* *err*]
        (println text)
        (flush)))))

(defn info [& words] (apply line "INFO" words))
(defn warn [& words] (apply line "WARN" words))
(defn error [& words] (apply line "ERROR" words))

(ns evalfleet.gateway.settings
  "The command line, each flag with an environment variable as its fallback:
  `--storage-dir` is also `EVALFLEET_GATEWAY_STORAGE_DIR`. Every error is reported at once."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]))

(def usage
  "usage: run.sh --uri URI --port PORT --token-file FILE [--storage-dir DIR] [--backup-dir DIR] [--host HOST] [--anywhere yes] [--schema-file FILE]

  --uri          datomic:local://<db> (embedded, durable; needs --storage-dir),
                 datomic:mem://<db> (in memory, lost at the end),
                 datomic:dev://… or datomic:sql://… (a running transactor)
  --storage-dir  folder of Datomic Local
  --backup-dir   folder that backups of Datomic Local are made in
  --port         port on loopback; 0 picks one and prints it
  --host         loopback address (127.0.0.1)
  --anywhere     yes: any address for --host. The gateway speaks plain HTTP: for closed networks only, such
                 as that of containers
  --token-file   file with the token that callers send; 16 characters or more
  --schema-file  EDN file with attributes to add beside the built-in ones")

(def ^:private flags #{"--uri" "--storage-dir" "--backup-dir" "--port" "--host" "--anywhere" "--token-file" "--schema-file"})

(defn- given [args]
  (loop [[flag value & more :as args] args, found {}]
    (cond
      (empty? args) found
      (not (flags flag)) (throw (ex-info (str "unknown argument " flag) {::usage true}))
      (nil? value) (throw (ex-info (str flag " needs a value") {::usage true}))
      :else (recur more (assoc found flag value)))))

(defn- variable [flag]
  (str "EVALFLEET_GATEWAY_" (str/replace (str/upper-case (subs flag 2)) "-" "_")))

(defn- driver [uri]
  (condp #(str/starts-with? %2 %1) uri
    "datomic:local://" :local
    "datomic:mem://" :peer
    "datomic:dev://" :peer
    "datomic:sql://" :peer
    nil))

(defn- shown
  "The URI without what follows `?`, where a JDBC URL carries its password."
  [uri]
  (let [at (str/index-of uri "?")]
    (if at (str (subs uri 0 at) "?…") uri)))

(defn- token [path]
  (when (and path (.isFile (io/file path)))
    (str/trim (slurp path :encoding "UTF-8"))))

(defn- port-number [text]
  (let [n (some-> text parse-long)]
    (when (and n (<= 0 n 65535)) n)))

(defn parse
  "Validated settings of arguments and environment."
  [args environment]
  (let [found (given args)
        value #(or (found %) (get environment (variable %)))
        uri (value "--uri")
        kind (some-> uri driver)
        db-name (when (= :local kind) (subs uri (count "datomic:local://")))
        settings {:uri uri
                  :shown-uri (some-> uri shown)
                  :driver kind
                  :db-name db-name
                  :storage-dir (some-> (value "--storage-dir") io/file .getAbsolutePath)
                  :backup-dir (some-> (value "--backup-dir") io/file .getAbsolutePath)
                  :host (or (value "--host") "127.0.0.1")
                  :anywhere (= "yes" (value "--anywhere"))
                  :port (port-number (value "--port"))
                  :token (token (value "--token-file"))
                  :schema-file (value "--schema-file")}
        errors (remove nil?
                       [(when-not kind (str "--uri must begin with datomic:local://, datomic:mem://, datomic:dev:// or datomic:sql://"
                                            (when uri (str ", not " (shown uri)))))
                        (when (and db-name (or (not (re-matches #"[A-Za-z0-9][A-Za-z0-9_-]{0,63}" db-name))
                                          (re-find #"--\d+$" db-name)))
                          "--uri: the name of a local database is letters, digits, - and _, 64 at most, without -- and a number at its end")
                        (when (and (= :local kind) (nil? (:storage-dir settings)))
                          "--storage-dir is needed with datomic:local://")
                        (when-not (contains? #{nil "yes" "no"} (value "--anywhere"))
                          "--anywhere must be yes or no")
                        (when-not (:port settings) "--port must be a number from 0 to 65535")
                        (when-not (:token settings) "--token-file must name a readable file")
                        (when (some-> (:token settings) count (< 16))
                          "--token-file must hold 16 characters or more")
                        (when (and (:schema-file settings) (not (.isFile (io/file (:schema-file settings)))))
                          (str "--schema-file: no such file: " (:schema-file settings)))])]
    (when (seq errors)
      (throw (ex-info (str/join "\n" errors) {::usage true})))
    settings))

(defn usage-error? [t] (boolean (::usage (ex-data t))))

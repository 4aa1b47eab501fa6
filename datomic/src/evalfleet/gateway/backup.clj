(ns evalfleet.gateway.backup
  "Copies Datomic Local's files, which is how it is backed up: while no transaction runs. The copy is
  published by a rename, so that what bears a backup's name is whole; whether it can be opened is for
  the caller to see."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]
            [evalfleet.gateway.fault :refer [fault]]
            [evalfleet.gateway.files :as files]
            [evalfleet.gateway.store :as store]
            [evalfleet.gateway.writers :as writers])
  (:import (java.io File IOException)
           (java.nio.file CopyOption Files StandardCopyOption)))

(def ^:private partial-suffix ".partial")

(def ^:private name-form #"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")

(defn- copy-tree!
  "Copies the files of a folder; answers how many, and their bytes."
  [^File from ^File to]
  (.mkdirs to)
  (let [counts (doall
                (for [^File file (.listFiles from)
                      ;; Whoever opens the copy locks it anew.
                      :when (not= ".lock" (.getName file))]
                  (let [target (io/file to (.getName file))]
                    (if (.isDirectory file)
                      (copy-tree! file target)
                      (do (Files/copy (.toPath file) (.toPath target)
                                      (into-array CopyOption [StandardCopyOption/COPY_ATTRIBUTES]))
                          (files/sync! target)
                          {:files 1 :bytes (.length target)})))))]
    (files/sync! to)
    (reduce #(merge-with + %1 %2) {:files 0 :bytes 0} counts)))

(defn- checked [{:keys [driver backup-dir]} backup-name]
  (when-not (= :local driver)
    (throw (fault :refused (str "only Datomic Local is backed up here: a database in memory has nothing to keep, "
                                "and one behind a transactor has `bin/datomic backup-db`"))))
  (when-not backup-dir
    (throw (fault :refused "the gateway was started without --backup-dir")))
  (when-not (and (string? backup-name) (re-matches name-form backup-name))
    (throw (fault :bad-request ":name must be letters, digits, dots, dashes and underscores, 64 at most")))
  (let [target (io/file backup-dir backup-name)]
    (when (.exists target)
      (throw (fault :bad-request (str "there is a backup " backup-name " already"))))
    target))

(defn- sweep!
  "Removes what the interrupted left. Whoever calls it is the only one who takes a backup."
  [backup-dir]
  (doseq [^File left (.listFiles (io/file backup-dir))
          :when (and (.isDirectory left) (str/ends-with? (.getName left) partial-suffix))]
    (files/delete-tree left)))

(defn take!
  "Answers {:basis-t :files :bytes}. Nobody writes meanwhile."
  [{:keys [storage-dir backup-dir db-name] :as settings} opened places {backup-name :name}]
  (let [^File target (checked settings backup-name)
        partial (io/file backup-dir (str backup-name partial-suffix))
        ;; The files may bear another name since retention was last at work; a backup's do not.
        source (io/file storage-dir "evalfleet" (:db-name opened))]
    (.mkdirs (io/file backup-dir))
    (writers/still
     places
     (fn []
       (try
         (sweep! backup-dir)
         (files/room! backup-dir (files/size source))
         (let [counts (copy-tree! source (io/file partial "evalfleet" db-name))
               basis (store/basis-t opened)]
           (files/sync! (io/file partial "evalfleet"))
           (files/sync! partial)
           (files/move! partial target)
           (assoc counts :basis-t basis))
         (catch IOException e
           (files/delete-tree partial)
           (throw (fault :refused (str "the store cannot be copied to " backup-dir ": " (.getMessage e)) e))))))))

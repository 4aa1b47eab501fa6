(ns evalfleet.gateway.files
  "Files that survive a loss of power, folders that go, and room on their disks."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]
            [evalfleet.gateway.fault :refer [fault]])
  (:import (java.io File)
           (java.nio.channels FileChannel)
           (java.nio.file CopyOption Files OpenOption StandardCopyOption StandardOpenOption)))

(defn sync!
  "Forces a file, or a folder's entries, to the disk."
  [^File file]
  (let [option (if (.isDirectory file) StandardOpenOption/READ StandardOpenOption/WRITE)]
    (with-open [channel (FileChannel/open (.toPath file) (into-array OpenOption [option]))]
      (.force channel true))))

(defn pointer
  "The file that says which files are Datomic Local's database, once retention has given it others."
  ^File [{:keys [storage-dir db-name]}]
  (io/file storage-dir (str db-name ".current")))

(defn current
  "The name of the files that are Datomic Local's database."
  [{:keys [db-name] :as settings}]
  (let [file (pointer settings)]
    (if (.isFile file) (str/trim (slurp file :encoding "UTF-8")) db-name)))

(def ^:private reserve-bytes
  "What stays free of a disk that is written to."
  (* 64 1024 1024))

(defn room!
  "Says `busy` when a folder's disk has no room for so many bytes and the reserve. Whoever writes asks
  first: a log that meets the end of its disk is torn, a refused batch is written later."
  [folder bytes]
  (let [free (.getUsableSpace (io/file folder))]
    (when (< free (+ bytes reserve-bytes))
      (throw (fault :busy (format "the disk of %s is full: %.0f MiB are free, and %.0f are needed. Make room; nothing was written"
                                  folder (/ free 1048576.0) (/ (+ bytes reserve-bytes) 1048576.0)))))))

(defn size
  "Bytes of all files below a folder, or of a file."
  [^File file]
  (if (.isDirectory file)
    (transduce (map size) + 0 (.listFiles file))
    (.length file)))

(defn delete-tree [^File file]
  (run! delete-tree (.listFiles file))
  (.delete file))

(defn move!
  "Gives a file or folder its name, over one of that name."
  [^File from ^File to]
  (Files/move (.toPath from) (.toPath to) (into-array CopyOption [StandardCopyOption/ATOMIC_MOVE]))
  (sync! (.getParentFile (.getAbsoluteFile to))))

(defn write-atomically! [^File file ^String text]
  (let [partial (io/file (str file ".partial"))]
    (spit partial text :encoding "UTF-8")
    (sync! partial)
    (move! partial file)))

(ns evalfleet.gateway.files
  "Files that survive a loss of power, and folders that go."
  (:require [clojure.java.io :as io])
  (:import (java.io File)
           (java.nio.channels FileChannel)
           (java.nio.file CopyOption Files OpenOption StandardCopyOption StandardOpenOption)))

(defn sync!
  "Forces a file, or a folder's entries, to the disk."
  [^File file]
  (let [option (if (.isDirectory file) StandardOpenOption/READ StandardOpenOption/WRITE)]
    (with-open [channel (FileChannel/open (.toPath file) (into-array OpenOption [option]))]
      (.force channel true))))

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

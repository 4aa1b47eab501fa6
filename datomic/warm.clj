;; Loads both drivers and puts each to a little work, so that the class archive holds what they need.
(require '[datomic.client.api :as client] '[datomic.api :as peer] 'clojure.edn 'clojure.string 'clojure.set)
(import 'com.sun.net.httpserver.HttpServer)

(def attribute {:db/ident :a/b :db/valueType :db.type/string :db/cardinality :db.cardinality/one})
(def question '[:find ?v :where [_ :a/b ?v]])

(let [local (client/client {:server-type :datomic-local :storage-dir :mem :system "warm"})]
  (client/create-database local {:db-name "warm"})
  (let [conn (client/connect local {:db-name "warm"})]
    (client/transact conn {:tx-data [attribute]})
    (client/transact conn {:tx-data [{:a/b "c"}]})
    (client/q question (client/db conn))))

(peer/create-database "datomic:mem://warm")
(let [conn (peer/connect "datomic:mem://warm")]
  @(peer/transact conn [attribute])
  @(peer/transact conn [{:a/b "c"}])
  (peer/q question (peer/db conn)))

(.stop (HttpServer/create (java.net.InetSocketAddress. "127.0.0.1" 0) 0) 0)
(System/exit 0)

#!/usr/bin/env bash
# Apache Kafka: one KRaft node that is broker and controller, with the JVM flags of its start
# script; flushed is log.flush.interval.messages=1. Its commands: see corelane.sh.
set -euo pipefail
: "${KAFKA_JARS:?where the jars are}"
java=(java -Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent
    -Djava.awt.headless=true -cp "$KAFKA_JARS/*")
case $1 in
    about)
        jar=$(echo "$KAFKA_JARS"/kafka_2.13-*.jar)
        echo "Apache Kafka $(basename "${jar#*kafka_2.13-}" .jar), $(java -version 2>&1 | head -n 1)"
        ;;
    takes) echo "produce consume e2e backlog mixed ping" ;;
    prepare)
        class=$2 dir=$3 port=$4
        mkdir -p "$dir/data"
        {
            echo "process.roles=broker,controller"
            echo "node.id=1"
            echo "controller.quorum.voters=1@127.0.0.1:$((port + 1))"
            echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))"
            echo "controller.listener.names=CONTROLLER"
            echo "log.dirs=$dir/data"
            echo "offsets.topic.replication.factor=1"
            # so that a run's topic leaves the disk before the next one
            echo "log.segment.delete.delay.ms=1000"
            [[ $class == acked ]] || echo "log.flush.interval.messages=1"
        } >"$dir/server.properties"
        "${java[@]}" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ \
            -c "$dir/server.properties" >/dev/null 2>&1
        ;;
    run) exec "${java[@]}" kafka.Kafka "$3/server.properties" ;;
esac

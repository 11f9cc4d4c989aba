package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// KafkaVersion is a protocol level of Kafka, the value of Kafka.Version (ORDERER
// §11.2). From 1.0 on there are three parts.
type KafkaVersion [4]uint

// String is the level as it is printed.
func (v KafkaVersion) String() string {
	if v[0] > 0 {
		return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])
	}
	return fmt.Sprintf("%d.%d.%d.%d", v[0], v[1], v[2], v[3])
}

// AtLeast tells whether the level is w or later.
func (v KafkaVersion) AtLeast(w KafkaVersion) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] > w[i]
		}
	}
	return true
}

// kafkaLevels are the levels there are; a version stands for the last one that is
// not above it.
func kafkaLevels() []KafkaVersion {
	return []KafkaVersion{
		{0, 8, 2, 0},
		{0, 8, 2, 1},
		{0, 8, 2, 2},
		{0, 9, 0, 0},
		{0, 9, 0, 1},
		{0, 10, 0, 0},
		{0, 10, 0, 1},
		{0, 10, 1, 0},
		{0, 10, 2, 0},
		{0, 11, 0, 0},
		{1, 0, 0, 0},
	}
}

// ParseKafkaVersion maps a version to its level.
func ParseKafkaVersion(s string) (KafkaVersion, error) {
	malformed := fmt.Errorf("Unable to parse Kafka version: Malformed version: %s", s)
	var v KafkaVersion
	parts := strings.Split(strings.TrimPrefix(s, "v"), ".")
	if len(parts) > len(v) {
		return v, malformed
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return v, malformed
		}
		v[i] = uint(n)
	}
	levels := kafkaLevels()
	for i := len(levels) - 1; i >= 0; i-- {
		if v.AtLeast(levels[i]) {
			return levels[i], nil
		}
	}
	return v, fmt.Errorf("Unsupported Kafka version: '%s'", s)
}

func kafkaVersionHook(_, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[KafkaVersion]() {
		return data, nil
	}
	return ParseKafkaVersion(fmt.Sprint(data))
}

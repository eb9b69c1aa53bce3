package lease_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
)

func TestRequestsThatAreRefused(t *testing.T) {
	for body, want := range map[string]string{
		``:                                   `the body is empty; expected a JSON object such as {"ttl": "30s"}`,
		`{}`:                                 `pid: is required, or ttl: what keeps the lease alive`,
		`{"pid": 0}`:                         `pid: is 0; expected an integer from 1 to 4194304`,
		`{"pid": 4194305}`:                   `pid: is 4194305; expected an integer from 1 to 4194304`,
		`{"pid": 7, "start_time": -1}`:       `start_time: is -1; expected an integer`,
		`{"pid": "7"}`:                       `pid: is "7"; expected an integer`,
		`{"pid": 7, "ttl": "30s"}`:           `ttl: cannot be given with pid`,
		`{"ttl": 30}`:                        `ttl: is 30; expected a string`,
		`{"ttl": "30"}`:                      `ttl: is "30"; expected a duration with a unit from 1s to 24h, such as 30s`,
		`{"ttl": "10ms"}`:                    `ttl: is "10ms"; expected a duration`,
		`{"ttl": "999ms"}`:                   `ttl: is "999ms"; expected a duration`,
		`{"ttl": "-1h"}`:                     `ttl: is "-1h"; expected a duration`,
		`{"ttl": "24h1ns"}`:                  `ttl: is "24h1ns"; expected a duration`,
		`{"ttl": "25h"}`:                     `ttl: is "25h"; expected a duration`,
		`{"ttl": "30s", "start_time": 4}`:    `start_time: is nothing without pid`,
		`{"ttl": "30s", "port": 65536}`:      `port: is 65536; expected an integer from 1 to 65535`,
		`{"ttl": "30s", "port": 1023}`:       `port: is 1023; below 1024 only a worker gets a port, if its entry has it (port in hive.yaml)`,
		`{"ttl": "30s", "port": 80}`:         `port: is 80; below 1024`,
		`{"ttl": "30s", "ports": 257}`:       `ports: is 257; expected an integer from 1 to 256`,
		`{"ttl": "30s", "ports": 0}`:         `ports: is 0; expected an integer from 1 to 256`,
		`{"ttl": "30s", "owner": 7}`:         `owner: is 7; expected a string`,
		`{"ttl": "30s", "owner": "a\u0007"}`: `owner: has control characters`,
		`{"ttl": "30s", "owner": "a\u2066"}`: `owner: has \u2066, which is invisible`,
		`{"ttl": "30s", "hive_id": "x"}`:     `hive_id: is not a field of a lease (its fields: pid, start_time, ttl, port, ports, owner)`,
	} {
		_, err := lease.DecodeRequest([]byte(body))
		require.ErrorContains(t, err, want, body)
		var in *errdefs.InputError
		require.ErrorAs(t, err, &in)
	}
}

func TestRequestsAreRead(t *testing.T) {
	longest := strings.Repeat("o", 128)
	for body, want := range map[string]lease.Request{
		`{"pid": 7, "start_time": 99, "port": 8188, "ports": 2, "owner": "bob"}`: {Holder: lease.Holder{PID: 7, StartTime: 99}, Port: 8188, Ports: 2, Owner: "bob"},
		`{"pid": 4194304}`:                          {Holder: lease.Holder{PID: 4194304}},
		`{"ttl": "1s"}`:                             {Holder: lease.Holder{TTL: time.Second}},
		`{"ttl": "24h", "port": 1024}`:              {Holder: lease.Holder{TTL: 24 * time.Hour}, Port: 1024},
		`{"ttl": "90m", "ports": 256}`:              {Holder: lease.Holder{TTL: 90 * time.Minute}, Ports: 256},
		`{"ttl": "1h", "owner": "` + longest + `"}`: {Holder: lease.Holder{TTL: time.Hour}, Owner: longest},
	} {
		got, err := lease.DecodeRequest([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
	_, err := lease.DecodeRequest(fmt.Appendf(nil, `{"ttl": "1h", "owner": "%so"}`, longest))
	require.EqualError(t, err, "owner: is longer than 128 bytes")
}

func TestRenewalsAreRead(t *testing.T) {
	for body, want := range map[string]string{
		``:                                         `the body is empty; expected a JSON object such as {"lease_id": "..."}`,
		`{"pid": 7}`:                               `lease_id: is required: the proof of holding that the acquisition gave`,
		`{"lease_id": ""}`:                         `lease_id: is required`,
		`{"lease_id": 7}`:                          `lease_id: is 7; expected a string`,
		`{"lease_id": "l", "port": 1}`:             `port: is not a field of a renewal (its fields: lease_id, pid, start_time, ttl)`,
		`{"lease_id": "l", "ttl": "x"}`:            `ttl: is "x"; expected a duration`,
		`{"lease_id": "l", "pid": 0}`:              `pid: is 0; expected an integer`,
		`{"lease_id": "l", "start_time": 4}`:       `start_time: is nothing without pid`,
		`{"lease_id": "l", "pid": 7, "ttl": "1h"}`: `ttl: cannot be given with pid`,
	} {
		_, err := lease.DecodeRenewal([]byte(body))
		require.ErrorContains(t, err, want, body)
		require.ErrorAs(t, err, new(*errdefs.InputError), body)
	}
	for body, want := range map[string]lease.Renewal{
		`{"lease_id": "l"}`:                            {LeaseID: "l"},
		`{"lease_id": "l", "ttl": "1h"}`:               {LeaseID: "l", Holder: lease.Holder{TTL: time.Hour}},
		`{"lease_id": "l", "pid": 7, "start_time": 8}`: {LeaseID: "l", Holder: lease.Holder{PID: 7, StartTime: 8}},
	} {
		got, err := lease.DecodeRenewal([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
}

package operation_test

import (
	"fmt"

	"rbeehive/hive/operation"
)

func Example() {
	op, _, err := operation.Decode([]byte(`{"operation": "worker_stop", "worker_id": "chat"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	row := operation.Of(op)
	fmt.Printf("%T is about %q; a full disk refuses it: %t\n", op, operation.TargetOf(op).Ref, !row.UsesReserve)

	_, _, err = operation.Decode([]byte(`{"operation": "worker_stop", "worker": "chat"}`))
	fmt.Println(err)
	// Output:
	// operation.StopWorker is about "chat"; a full disk refuses it: false
	// worker: is not a field of worker_stop (its fields: hive_id, worker_id)
}

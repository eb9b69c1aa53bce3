package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"rbeehive/httpapi/client"
)

// A refusal of the hive is an *Error with the code of the contract.
func Example() {
	hive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"worker \"chat\": not found"}`)
	}))
	defer hive.Close()

	c, err := client.New(client.Options{Addr: hive.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Worker(context.Background(), "chat")
	var refused *client.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Code)
	}
	// Output:
	// not_found
}

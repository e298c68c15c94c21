// SPDX-License-Identifier: MIT

// interop-go is a server, and a client, on Go's libraries: net/http (HTTP/1.1, HTTP/2), coder/websocket, grpc-go.
//
//	interop-go serve HOST CHAIN KEY             prints its ports as JSON
//	interop-go LIBRARY SCENARIO HOST:PORT CASE  prints what it got as JSON
package main

import (
	"encoding/json"
	"log"
	"os"
)

type result map[string]any

func say(r result) {
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 5 && os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	if len(os.Args) != 5 {
		log.Fatal("usage: interop-go serve HOST CHAIN KEY | LIBRARY SCENARIO HOST:PORT CASE")
	}
	c := client{scenario: os.Args[2], target: os.Args[3], id: os.Args[4]}
	run := map[string]func() (result, error){
		"http": c.http, "http1": c.http1, "websocket": c.websocket, "grpc": c.grpc,
	}[os.Args[1]]
	r, err := run()
	if err != nil {
		log.Fatal(err)
	}
	say(r)
}

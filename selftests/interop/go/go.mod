module interop

go 1.24

require (
	github.com/coder/websocket v1.8.13
	golang.org/x/net v0.42.0
	google.golang.org/grpc v1.75.0
)

require (
	golang.org/x/sys v0.34.0 // indirect
	golang.org/x/text v0.27.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250707201910-8d1bb00bc6a7 // indirect
	google.golang.org/protobuf v1.36.6 // indirect
)

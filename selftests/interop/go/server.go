// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw takes messages as they are: no generated code.
type raw struct{}

func (raw) Name() string                       { return "proto" }
func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte{}, data...); return nil }

var cancelled atomic.Int64

func unary(ctx context.Context, in []byte) ([]byte, error) {
	if string(in) == "cancelled?" {
		return []byte(strconv.FormatInt(cancelled.Load(), 10)), nil
	}
	return in, grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "there"))
}

func hang(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	cancelled.Add(1)
	return nil, ctx.Err()
}

func fail(context.Context, []byte) ([]byte, error) {
	return nil, status.Error(codes.NotFound, "nothing of that kind")
}

func method(name string, f func(context.Context, []byte) ([]byte, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, dec func(any) error,
		_ grpc.UnaryServerInterceptor) (any, error) {
		var in []byte
		if err := dec(&in); err != nil {
			return nil, err
		}
		out, err := f(ctx, in)
		return &out, err
	}}
}

func serverStream(_ any, s grpc.ServerStream) error {
	var in []byte
	if err := s.RecvMsg(&in); err != nil {
		return err
	}
	for i := range 3 {
		if i > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		out := append(append([]byte{}, in...), byte('0'+i))
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	}
	return nil
}

func clientStream(_ any, s grpc.ServerStream) error {
	var all []byte
	for {
		var in []byte
		err := s.RecvMsg(&in)
		if err == io.EOF {
			return s.SendMsg(&all)
		}
		if err != nil {
			return err
		}
		if all != nil {
			all = append(all, '+')
		}
		all = append(all, in...)
	}
}

func bidi(_ any, s grpc.ServerStream) error {
	for {
		var in []byte
		err := s.RecvMsg(&in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		out := append([]byte("re:"), in...)
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	}
}

var echo = grpc.ServiceDesc{
	ServiceName: "interop.Echo",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{method("Unary", unary), method("Hang", hang), method("Fail", fail)},
	Streams: []grpc.StreamDesc{
		{StreamName: "ServerStream", Handler: serverStream, ServerStreams: true},
		{StreamName: "ClientStream", Handler: clientStream, ClientStreams: true},
		{StreamName: "Bidi", Handler: bidi, ServerStreams: true, ClientStreams: true},
	},
}

func serveGrpc(l net.Listener, cert tls.Certificate) {
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)), grpc.ForceServerCodec(raw{}),
		grpc.MaxRecvMsgSize(1<<26), grpc.MaxSendMsgSize(1<<26))
	s.RegisterService(&echo, nil)
	log.Fatal(s.Serve(l))
}

func httpEcho(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if len(body) == 0 {
		body = []byte(r.URL.String())
	}
	w.Write(body)
}

func httpStream(w http.ResponseWriter, _ *http.Request) {
	for i := range 3 {
		if i > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		fmt.Fprintf(w, "piece%d", i)
		w.(http.Flusher).Flush()
	}
}

func httpTrailers(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(103)
	w.Header().Set("Trailer", "X-Sum")
	body, _ := io.ReadAll(r.Body)
	w.Write(body)
	w.Header().Set("X-Sum", fmt.Sprint(len(body), " ", r.Trailer.Get("X-Up")))
}

func wsEcho(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return
	}
	ws.SetReadLimit(-1)
	for {
		kind, data, err := ws.Read(r.Context())
		if err != nil {
			ws.Close(websocket.CloseStatus(err), "")
			return
		}
		if ws.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

func listen(host string) (net.Listener, int) {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		log.Fatal(err)
	}
	return l, l.Addr().(*net.TCPAddr).Port
}

func serve(host, chain, key string) {
	cert, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		log.Fatal(err)
	}
	rpc, rpcPort := listen(host)
	web, webPort := listen(host)
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", httpEcho)
	mux.HandleFunc("/stream", httpStream)
	mux.HandleFunc("/trailers", httpTrailers)
	mux.HandleFunc("/ws", wsEcho)
	go serveGrpc(rpc, cert)
	say(result{"http": webPort, "ws": webPort, "h2": webPort, "grpc": rpcPort})
	log.Fatal((&http.Server{Handler: mux}).ServeTLS(web, chain, key))
}

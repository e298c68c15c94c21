// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type client struct{ scenario, target, id string }

func body() []byte {
	b := make([]byte, 256*1024)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// pieces says how far the first and the last one are apart, and gives all of them.
func pieces(next func() ([]byte, error)) (result, error) {
	var all []byte
	var begin time.Time
	for {
		part, err := next()
		if len(part) > 0 && begin.IsZero() {
			begin = time.Now()
		}
		all = append(all, part...)
		if err == io.EOF {
			return result{"body": string(all), "spread": time.Since(begin).Seconds()}, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c client) http1() (result, error) {
	return c.request(&http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}})
}

func (c client) http() (result, error) {
	return c.request(&http.Transport{ForceAttemptHTTP2: true})
}

func (c client) request(transport *http.Transport) (result, error) {
	method, path, send := "GET", "/echo", []byte(nil)
	hints := 0
	switch c.scenario {
	case "post":
		method, send = "POST", body()
	case "stream":
		path = "/stream"
	case "trailers":
		method, path, send = "POST", "/trailers", body()
	}
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { hints = code; return nil }})
	r, err := http.NewRequestWithContext(ctx, method, "https://"+c.target+path, io.MultiReader(bytes.NewReader(send)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("x-case", c.id)
	if c.scenario == "trailers" {
		r.Trailer = http.Header{"X-Up": {"up"}}
	} else if send == nil {
		r.Body = nil
	}
	a, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	if c.scenario == "stream" {
		return pieces(func() ([]byte, error) {
			b := make([]byte, 64)
			n, err := a.Body.Read(b)
			return b[:n], err
		})
	}
	got, err := io.ReadAll(a.Body)
	out := result{"status": a.StatusCode, "version": a.Proto, "body": bytes.Equal(got, send)}
	if c.scenario == "get" {
		out["body"] = string(got)
	} else if c.scenario == "trailers" {
		out["trailer"], out["hints"] = a.Trailer.Get("X-Sum"), hints
	}
	return out, err
}

func (c client) websocket() (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+c.target+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"X-Case": {c.id}}, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	if err = ws.Write(ctx, websocket.MessageText, []byte("héllo")); err != nil {
		return nil, err
	}
	_, text, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	if err = ws.Write(ctx, websocket.MessageBinary, body()); err != nil {
		return nil, err
	}
	_, binary, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	return result{"text": string(text), "binary": bytes.Equal(binary, body())}, ws.Close(4001, "done")
}

func (c client) grpc() (result, error) {
	conn, err := grpc.NewClient(c.target, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(1<<26), grpc.MaxCallSendMsgSize(1<<26)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-case", c.id)
	switch c.scenario {
	case "server-stream", "client-stream", "bidi":
		return c.streams(ctx, conn)
	}
	return c.unary(ctx, conn)
}

func (c client) unary(ctx context.Context, conn *grpc.ClientConn) (result, error) {
	var out []byte
	var trailer metadata.MD
	in, name := []byte("one"), "Unary"
	switch c.scenario {
	case "large":
		in = bytes.Repeat(body(), 12)
	case "error":
		name = "Fail"
	case "deadline", "cancel":
		name = "Hang"
	}
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.scenario == "deadline" {
		call, cancel = context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
	} else if c.scenario == "cancel" {
		time.AfterFunc(300*time.Millisecond, cancel)
	}
	err := conn.Invoke(call, "/interop.Echo/"+name, &in, &out, grpc.Trailer(&trailer))
	if name == "Unary" {
		return result{"same": bytes.Equal(in, out), "trailer": strings.Join(trailer["x-trailer"], ",")}, err
	}
	s, _ := status.FromError(err)
	r := result{"code": s.Code().String()}
	if name == "Fail" {
		r["details"] = s.Message()
		return r, nil
	}
	time.Sleep(500 * time.Millisecond)
	in = []byte("cancelled?")
	if err = conn.Invoke(ctx, "/interop.Echo/Unary", &in, &out); err != nil {
		return nil, err
	}
	r["cancelled"], err = strconv.Atoi(string(out))
	return r, err
}

func (c client) streams(ctx context.Context, conn *grpc.ClientConn) (result, error) {
	names := map[string]string{"server-stream": "ServerStream", "client-stream": "ClientStream", "bidi": "Bidi"}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/interop.Echo/"+names[c.scenario])
	if err != nil {
		return nil, err
	}
	receive := func() ([]byte, error) {
		var out []byte
		err := s.RecvMsg(&out)
		return out, err
	}
	send := func(text string) error {
		in := []byte(text)
		return s.SendMsg(&in)
	}
	switch c.scenario {
	case "server-stream":
		if err = errors.Join(send("m"), s.CloseSend()); err != nil {
			return nil, err
		}
		return pieces(receive)
	case "client-stream":
		if err = errors.Join(send("a"), send("b"), send("c"), s.CloseSend()); err != nil {
			return nil, err
		}
		out, err := receive()
		if err != nil {
			return nil, err
		}
		if _, err = receive(); err != io.EOF {
			return nil, fmt.Errorf("after the end: %w", err)
		}
		return result{"body": string(out)}, nil
	}
	var got []string
	for i := range 5 {
		if err = send(fmt.Sprint(i)); err != nil {
			return nil, err
		}
		out, err := receive()
		if err != nil {
			return nil, err
		}
		got = append(got, string(out))
	}
	s.CloseSend()
	if _, err = receive(); err != io.EOF {
		return nil, fmt.Errorf("after the end: %w", err)
	}
	return result{"body": strings.Join(got, ","), "rest": 0}, nil
}

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// conn is a kept connection that costs the client little: what is sent was written
// out before.
type conn struct {
	net  net.Conn
	in   *bufio.Reader
	body bytes.Buffer
}

// answerTimeout bounds the wait for one answer.
const answerTimeout = 30 * time.Second

// dial connects to HOST:PORT, or to the path of a Unix socket.
func dial(ctx context.Context, address string) (*conn, error) {
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return &conn{net: c, in: bufio.NewReader(c)}, nil
}

// request is a whole POST as it goes over the wire to an address.
func request(path, address, token string, body []byte) []byte {
	host := address
	if filepath.IsAbs(address) {
		host = "localhost"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n", path, host, token)
	fmt.Fprintf(&b, "Content-Type: application/json\r\nX-Request-ID: bench\r\nContent-Length: %d\r\n\r\n", len(body))
	b.Write(body)
	return b.Bytes()
}

// do sends a request and gives the answer's body, which is good until the next.
// Any status but 200 is an error.
func (c *conn) do(request []byte) ([]byte, error) {
	if err := c.net.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, fmt.Errorf("set a deadline: %w", err)
	}
	if _, err := c.net.Write(request); err != nil {
		return nil, fmt.Errorf("send a request: %w", err)
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	c.body.Reset()
	_, err = c.body.ReadFrom(response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, c.body.String())
	}
	return c.body.Bytes(), err
}

func (c *conn) close() { _ = c.net.Close() }

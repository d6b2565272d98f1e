package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	pathEvaluation  = "/access/v1/evaluation"
	pathEvaluations = "/access/v1/evaluations"
	pathReady       = "/ready"

	floorStopTimeout   = 5 * time.Second
	floorHeaderTimeout = 10 * time.Second
)

// floorRequest is what the floor's handlers parse, by gin's own binding.
type floorRequest struct {
	Subject struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"subject"`
	Action struct {
		Name string `json:"name"`
	} `json:"action"`
	Resource struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"resource"`
}

// ServeFloor is the least that any check server on gin must do: check a token, parse
// the body, echo X-Request-ID, and write an answer of the size of a check's or of a
// batch's. It serves until ctx ends.
func ServeFloor(ctx context.Context, listen, token string, checkBytes, batchBytes int) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for the floor: %w", err)
	}
	server := &http.Server{Handler: newFloor(token, checkBytes, batchBytes), ReadHeaderTimeout: floorHeaderTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), floorStopTimeout)
		defer cancel()
		err = server.Shutdown(stopping)
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

func newFloor(token string, checkBytes, batchBytes int) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	want := sha256.Sum256([]byte(token))
	answer := func(c *gin.Context, request any, body []byte) {
		got := sha256.Sum256([]byte(strings.TrimPrefix(c.GetHeader("Authorization"), "Bearer ")))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			c.Status(http.StatusUnauthorized)
			return
		}
		if err := c.ShouldBindJSON(request); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		c.Header("X-Request-ID", c.GetHeader("X-Request-ID"))
		c.Data(http.StatusOK, "application/json", body)
	}
	check, batch := bytes.Repeat([]byte{' '}, checkBytes), bytes.Repeat([]byte{' '}, batchBytes)
	engine.GET(pathReady, func(c *gin.Context) { c.Status(http.StatusOK) })
	engine.POST(pathEvaluation, func(c *gin.Context) { answer(c, &floorRequest{}, check) })
	engine.POST(pathEvaluations, func(c *gin.Context) {
		answer(c, &struct {
			Evaluations []floorRequest `json:"evaluations"`
		}{}, batch)
	})
	return engine
}

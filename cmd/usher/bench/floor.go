package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/usher-authz/usher/authz/floor"
)

const (
	pathEvaluation  = "/access/v1/evaluation"
	pathEvaluations = "/access/v1/evaluations"
	pathReady       = "/ready"

	floorStopTimeout   = 5 * time.Second
	floorHeaderTimeout = 10 * time.Second
)

// ServeFloor serves the floor, with answers of the size of a check's and of a batch's,
// until ctx ends.
func ServeFloor(ctx context.Context, listen, token string, checkBytes, batchBytes int) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for the floor: %w", err)
	}
	server := &http.Server{Handler: floor.New(token, blanks(checkBytes), blanks(batchBytes)), ReadHeaderTimeout: floorHeaderTimeout}
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

func blanks(n int) []byte { return bytes.Repeat([]byte{' '}, n) }

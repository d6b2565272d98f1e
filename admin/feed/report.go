package feed

import (
	"net"
	"net/http"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
)

// ServeReport handles POST /v1/feed/report: how far a sidecar is, and where it
// reports from.
func (s *Server) ServeReport(take func(r *wire.Report, address string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var report wire.Report
		s.post(w, r, &report, func(posted) {
			address, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				address = r.RemoteAddr
			}
			if err := take(&report, address); err != nil {
				s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, err.Error())
				return
			}
			_, _ = w.Write([]byte("{}")) // the sidecar is gone, or sees the end
		})
	})
}

package server

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
)

// configuration is AuthZEN's metadata: the endpoints that there are, and no others.
type configuration struct {
	PolicyDecisionPoint       string `json:"policy_decision_point"`
	AccessEvaluationEndpoint  string `json:"access_evaluation_endpoint"`
	AccessEvaluationsEndpoint string `json:"access_evaluations_endpoint"`
}

// metadata answers GET /.well-known/authzen-configuration for a listener.
func metadata(publicURL string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		base := publicURL
		if base == "" {
			base = "http://" + r.Host
			if r.TLS != nil {
				base = "https://" + r.Host
			}
		}
		base = strings.TrimSuffix(base, "/")
		writeJSON(w, http.StatusOK, configuration{
			PolicyDecisionPoint:       base,
			AccessEvaluationEndpoint:  base + PathEvaluation,
			AccessEvaluationsEndpoint: base + PathEvaluations,
		})
	}
}

// writeJSON answers with v, a struct of texts and numbers.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		problemOf(err).Write(w)
		return
	}
	h := w.Header()
	h["Content-Type"] = contentType
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

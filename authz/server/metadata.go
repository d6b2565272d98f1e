package server

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
)

// configuration is AuthZEN's metadata: the endpoints that there are, and no others.
type configuration struct {
	PolicyDecisionPoint       string `json:"policy_decision_point"`
	AccessEvaluationEndpoint  string `json:"access_evaluation_endpoint"`
	AccessEvaluationsEndpoint string `json:"access_evaluations_endpoint"`
	SearchSubjectEndpoint     string `json:"search_subject_endpoint"`
	SearchResourceEndpoint    string `json:"search_resource_endpoint"`
	SearchActionEndpoint      string `json:"search_action_endpoint"`
}

// metadataPaths are where a listener has its metadata: below a public URL with a
// path that path comes last (AuthZEN, Obtaining Policy Decision Point Metadata).
func metadataPaths(publicURL string) []string {
	paths := []string{PathMetadata}
	if u, err := url.Parse(publicURL); err == nil {
		if below := strings.TrimSuffix(u.EscapedPath(), "/"); below != "" && !strings.ContainsAny(below, "{}%") {
			paths = append(paths, PathMetadata+below)
		}
	}
	return paths
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
			SearchSubjectEndpoint:     base + PathSubjects,
			SearchResourceEndpoint:    base + PathResources,
			SearchActionEndpoint:      base + PathActions,
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

package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// TestDocsAlerts: an alert rule on a metric that nobody has would never fire.
func TestDocsAlerts(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "alerts.yaml"))
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	require.NoError(t, yaml.UnmarshalWithOptions(data, &file, yaml.Strict()))

	env := devEnv(t, filepath.Join(shared.home(t), ".usher"))
	scraped := ""
	for _, name := range []string{"USHER_ADMIN_URL", "USHER_SIDECAR_URL", "USHER_ONDEMAND_SIDECAR_URL"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, env[name]+"/metrics", nil)
		require.NoError(t, err)
		resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		scraped += string(body)
	}
	series := regexp.MustCompile(`usher_\w+`)
	label := regexp.MustCompile(`(\w+)="(\w+)"`)
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			names := series.FindAllString(rule.Expr, -1)
			require.Len(t, names, 1, rule.Alert)
			require.Regexp(t, `(?m)^`+names[0]+`[ {]`, scraped, rule.Alert)
			for _, m := range label.FindAllStringSubmatch(rule.Expr, -1) {
				require.Regexp(t, `(?m)^`+names[0]+`\{.*`+m[0], scraped, rule.Alert)
			}
		}
	}
	require.Greater(t, rules, 5)
}

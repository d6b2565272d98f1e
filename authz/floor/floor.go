// Package floor is the least that any check server on gin must do: benchmarks and
// `usher bench` hold the check API against it.
package floor

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/usher-authz/usher/authz/server"
)

// request is what the handlers parse, by gin's own binding, with what encoding/json
// does by itself.
type request struct {
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

// New serves checks and batches: it checks the token, parses the body, echoes
// X-Request-ID, and answers check or batch, which are as large as the real answers.
func New(token string, check, batch []byte) http.Handler {
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
	engine.GET("/ready", func(c *gin.Context) { c.Status(http.StatusOK) })
	engine.POST(server.PathEvaluation, func(c *gin.Context) { answer(c, &request{}, check) })
	engine.POST(server.PathEvaluations, func(c *gin.Context) {
		answer(c, &struct {
			Evaluations []request `json:"evaluations"`
		}{}, batch)
	})
	return engine
}

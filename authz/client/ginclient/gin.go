// Package ginclient is middleware for gin: handlers run only where a sidecar allows.
package ginclient

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/usher-authz/usher/authz/client"
)

// Require lets requests through that the sidecar allows, and ends the others as
// [client.Client.Require] does.
func Require(c *client.Client, ask func(*gin.Context) (client.Question, error)) gin.HandlerFunc {
	return func(g *gin.Context) {
		refusal := c.Refusal(g.Request, func(*http.Request) (client.Question, error) { return ask(g) })
		if refusal == nil {
			g.Next()
			return
		}
		g.Abort()
		refusal.Write(g.Writer)
	}
}

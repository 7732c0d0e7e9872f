// leeway TOKEN: is it valid? The key is in KEY.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func main() {
	leeway := Leeway{leeway: 5 * time.Second} // until the first answer
	key := func(*jwt.Token) (any, error) { return []byte(os.Getenv("KEY")), nil }
	token, err := jwt.Parse(os.Args[1], key,
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway.Recommended()))
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	subject, _ := token.Claims.GetSubject()
	fmt.Println("accepted:", subject)
}

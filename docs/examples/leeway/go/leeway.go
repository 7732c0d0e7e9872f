package main

import (
	"encoding/json"
	"net/http"
	"os"
	"sync"
	"time"
)

// Leeway is what drift-agent recommends on this node: asked for at most once a minute.
type Leeway struct {
	mutex    sync.Mutex
	leeway   time.Duration
	askAgain time.Time
}

var client = http.Client{Timeout: time.Second}

// Recommended returns the leeway in force.
func (l *Leeway) Recommended() time.Duration {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if now := time.Now(); now.After(l.askAgain) { // by the monotonic clock that time.Now carries
		l.askAgain = now.Add(time.Minute)
		if seconds, ok := ask(); ok {
			l.leeway = time.Duration(seconds) * time.Second
		} // else the last answer stands
	}
	return l.leeway
}

func ask() (int, bool) {
	url := os.Getenv("CLOCK_URL")
	if url == "" {
		url = "http://drift-agent.drift-agent:10123/v1/clock"
	}
	// 503 means that the clock is not measured: the answer still has a leeway.
	answer, err := client.Get(url)
	if err != nil {
		return 0, false
	}
	defer answer.Body.Close()
	var clock struct {
		Seconds *int `json:"recommendedLeewaySeconds"`
	}
	if json.NewDecoder(answer.Body).Decode(&clock) != nil || clock.Seconds == nil {
		return 0, false
	}
	return *clock.Seconds, *clock.Seconds >= 0 && *clock.Seconds <= 120
}

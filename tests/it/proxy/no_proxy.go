// Answers, line by line, whether Go dials a target directly (1) or through the proxy (0). A line has the value of
// NO_PROXY, a tab and the target.
package main

import (
	"bufio"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		list, target, _ := strings.Cut(in.Text(), "\t")
		config := httpproxy.Config{HTTPSProxy: "http://proxy.test:1", NoProxy: list}
		proxy, err := config.ProxyFunc()(&url.URL{Scheme: "https", Host: target})
		if err == nil && proxy == nil {
			out.WriteString("1\n")
		} else {
			out.WriteString("0\n")
		}
	}
}

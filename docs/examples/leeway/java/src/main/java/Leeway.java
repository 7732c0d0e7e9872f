import com.nimbusds.jose.util.JSONObjectUtils;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.text.ParseException;
import java.time.Duration;

/** The leeway that drift-agent recommends on this node: asked for at most once a minute. */
final class Leeway {
    private static final URI CLOCK = URI.create(
            System.getenv().getOrDefault("CLOCK_URL", "http://drift-agent.drift-agent:10123/v1/clock"));
    private static final Duration PATIENCE = Duration.ofSeconds(1);
    private final HttpClient client = HttpClient.newBuilder().connectTimeout(PATIENCE).build();
    private int seconds = 5; // until the first answer
    private long askAgain = System.nanoTime();

    synchronized int recommended() throws InterruptedException {
        if (System.nanoTime() - askAgain >= 0) {
            askAgain = System.nanoTime() + Duration.ofMinutes(1).toNanos();
            try {
                // 503 means that the clock is not measured: the answer still has a leeway.
                var answer = client.send(
                        HttpRequest.newBuilder(CLOCK).timeout(PATIENCE).build(), BodyHandlers.ofString());
                int recommended = JSONObjectUtils.getInt(
                        JSONObjectUtils.parse(answer.body()), "recommendedLeewaySeconds");
                if (recommended >= 0 && recommended <= 120) {
                    seconds = recommended;
                }
            } catch (IOException | ParseException e) {
                // The last answer stands.
            }
        }
        return seconds;
    }
}

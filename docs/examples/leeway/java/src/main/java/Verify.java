import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.ImmutableSecret;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.nio.charset.StandardCharsets;
import java.util.Set;

/** Verify TOKEN: is it valid? The key is in KEY. */
final class Verify {
    public static void main(String[] arguments) throws Exception {
        var claims = new DefaultJWTClaimsVerifier<SecurityContext>(null, Set.of("exp"));
        claims.setMaxClockSkew(new Leeway().recommended());
        var key = System.getenv("KEY").getBytes(StandardCharsets.UTF_8);
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSKeySelector(
                new JWSVerificationKeySelector<>(JWSAlgorithm.HS256, new ImmutableSecret<>(key)));
        processor.setJWTClaimsSetVerifier(claims);
        try {
            System.out.println("accepted: " + processor.process(arguments[0], null).getSubject());
        } catch (com.nimbusds.jose.proc.BadJOSEException e) {
            System.out.println("refused: " + e.getMessage());
            System.exit(1);
        }
    }
}

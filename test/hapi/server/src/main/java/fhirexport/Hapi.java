package fhirexport;

import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.batch2.jobs.export.BulkDataExportProvider;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.IDaoRegistry;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.binary.api.IBinaryStorageSvc;
import ca.uhn.fhir.jpa.binstore.DatabaseBinaryContentStorageSvcImpl;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.config.util.ResourceCountCacheUtil;
import ca.uhn.fhir.jpa.dao.FulltextSearchSvcImpl;
import ca.uhn.fhir.jpa.dao.IFulltextSearchSvc;
import ca.uhn.fhir.jpa.dao.search.HSearchSortHelperImpl;
import ca.uhn.fhir.jpa.dao.search.IHSearchSortHelper;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirPostgresDialect;
import ca.uhn.fhir.jpa.provider.DaoRegistryResourceSupportedSvc;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.search.IStaleSearchDeletingSvc;
import ca.uhn.fhir.jpa.search.StaleSearchDeletingSvcImpl;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.util.ResourceCountCache;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.IResourceSupportedSvc;
import ca.uhn.fhir.rest.server.IncomingRequestAddressStrategy;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import com.zaxxer.hikari.HikariDataSource;
import jakarta.persistence.EntityManagerFactory;
import java.util.Arrays;
import java.util.Properties;
import javax.sql.DataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.CustomRequestLog;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.Primary;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;
import org.springframework.transaction.annotation.EnableTransactionManagement;

/** Smallest HAPI FHIR R4 JPA server: H2 (memory/file) or PostgreSQL, embedded Jetty, $export on. Options are system properties: port, jdbc, dbuser, dbpass, maxpage, exportfile, requestlog. */
public class Hapi {
  static String opt(String k, String d) { return System.getProperty(k, d); }

  public static void main(String[] a) throws Exception {
    var ctx = new AnnotationConfigApplicationContext(Cfg.class);
    var server = new Server();
    var c = new ServerConnector(server);
    c.setHost("127.0.0.1"); c.setPort(Integer.getInteger("port", 8080));
    server.addConnector(c);
    var h = new ServletContextHandler("/");
    h.addServlet(new ServletHolder(ctx.getBean(RestfulServer.class)), "/fhir/*");
    server.setHandler(h);
    // one line per request: when it ended (ms since 1970), how long it took (ms), status, bytes, method, path, query
    var log = opt("requestlog", "");
    if (!log.isEmpty())
      server.setRequestLog(new CustomRequestLog(log, "%{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'|UTC}t %{ms}T %s %O %m %U%q"));
    server.start();
    System.out.println("READY " + (System.currentTimeMillis()
        - java.lang.management.ManagementFactory.getRuntimeMXBean().getStartTime()) + " ms");
    // standard input belongs to the test: it closes when the test ends, however it ends
    while (System.in.read() >= 0) { }
    Runtime.getRuntime().halt(0);
  }

  @Configuration
  @EnableTransactionManagement
  @Import({JpaR4Config.class, ThreadPoolFactoryConfig.class, SubscriptionChannelConfig.class,
      JpaBatch2Config.class, Batch2JobsConfig.class})
  public static class Cfg {
    @Bean JpaStorageSettings storageSettings() {
      var s = new JpaStorageSettings();
      s.setResourceClientIdStrategy(JpaStorageSettings.ClientIdStrategyEnum.ANY);
      s.setResourceServerIdStrategy(JpaStorageSettings.IdStrategyEnum.UUID);
      s.setEnforceReferentialIntegrityOnWrite(false);
      s.setAllowExternalReferences(true);
      s.setAutoCreatePlaceholderReferenceTargets(false);
      s.setFetchSizeDefaultMaximum(Integer.getInteger("maxpage", 1000));
      s.setReuseCachedSearchResultsForMillis(null);
      s.setPreExpandValueSets(false);
      s.setBulkExportFileMaximumCapacity(Integer.getInteger("exportfile", 10000));
      return s;
    }
    @Bean PartitionSettings partitionSettings() { return new PartitionSettings(); }
    @Bean SubscriptionSettings subscriptionSettings() { return new SubscriptionSettings(); }
    @Bean IBinaryStorageSvc binaryStorageSvc() { return new DatabaseBinaryContentStorageSvcImpl(); }
    @Bean IFulltextSearchSvc fullTextSearchSvc() { return new FulltextSearchSvcImpl(); }
    @Bean IStaleSearchDeletingSvc staleSearchDeletingSvc() { return new StaleSearchDeletingSvcImpl(); }
    @Bean IHSearchSortHelper sortHelper(ISearchParamRegistry r) { return new HSearchSortHelperImpl(r); }
    @Bean IResourceSupportedSvc supported(IDaoRegistry r) { return new DaoRegistryResourceSupportedSvc(r); }
    @Bean(name = "myResourceCountsCache") ResourceCountCache counts(IFhirSystemDao<?, ?> d) {
      return ResourceCountCacheUtil.newResourceCountCache(d);
    }
    @Bean DatabaseBackedPagingProvider paging() {
      var p = new DatabaseBackedPagingProvider();
      p.setDefaultPageSize(20); p.setMaximumPageSize(Integer.getInteger("maxpage", 1000));
      return p;
    }
    @Bean DataSource dataSource() {
      var d = new HikariDataSource();
      d.setJdbcUrl(opt("jdbc", "jdbc:h2:mem:hapi;DB_CLOSE_DELAY=-1"));
      d.setUsername(opt("dbuser", "sa")); d.setPassword(opt("dbpass", ""));
      d.setMaximumPoolSize(20);
      return d;
    }
    @Primary @Bean LocalContainerEntityManagerFactoryBean entityManagerFactory(
        DataSource ds, ConfigurableListableBeanFactory bf, FhirContext fc, JpaStorageSettings s) {
      var f = HapiEntityManagerFactoryUtil.newEntityManagerFactory(bf, fc, s);
      f.setPersistenceUnitName("HAPI_PU");
      f.setDataSource(ds);
      var p = new Properties();
      boolean pg = opt("jdbc", "h2").startsWith("jdbc:postgresql");
      p.put("hibernate.dialect", (pg ? HapiFhirPostgresDialect.class : HapiFhirH2Dialect.class).getName());
      p.put("hibernate.hbm2ddl.auto", "update");
      p.put("hibernate.jdbc.batch_size", "50");
      p.put("hibernate.cache.use_query_cache", "false");
      p.put("hibernate.cache.use_second_level_cache", "false");
      p.put("hibernate.search.enabled", "false");
      f.setJpaProperties(p);
      return f;
    }
    @Primary @Bean JpaTransactionManager transactionManager(EntityManagerFactory e) { return new JpaTransactionManager(e); }
    @Bean RestfulServer restfulServer(FhirContext fc, IFhirSystemDao<?, ?> sys, IJpaSystemProvider jsp,
        ResourceProviderFactory rpf, DatabaseBackedPagingProvider paging, BulkDataExportProvider bulk,
        JpaStorageSettings ss, ISearchParamRegistry spr, IValidationSupport vs) {
      var s = new RestfulServer(fc);
      s.registerProviders(rpf.createProviders());
      s.registerProvider(jsp);
      s.registerProvider(bulk);
      s.setServerConformanceProvider(new JpaCapabilityStatementProvider(s, sys, ss, spr, vs));
      s.setPagingProvider(paging);
      s.setDefaultResponseEncoding(EncodingEnum.JSON);
      s.setServerAddressStrategy(new IncomingRequestAddressStrategy());
      return s;
    }
  }
}
